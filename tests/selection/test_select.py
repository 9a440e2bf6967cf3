"""select: exact budgets, a decision for every row, names never overwritten unasked."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pilotfish.config import parse_method
from pilotfish.diagnostics.verify import verify
from pilotfish.errors import DamagedRun, RunBusy, UsageError
from pilotfish.run_context import RunContext
from pilotfish.selection.controls import Control, draw_control
from pilotfish.selection.files import kept_of, refresh
from pilotfish.selection.select import SelectConfig, select
from pilotfish.store import Run, run_lock
from tests.experiments.runs import (
    decisions,
    pool_run,
    records,
    score_run,
    scored_run,
    selected,
    write,
)


def facts(run: Run, name: str = "selected") -> dict[str, object]:
    return dict(run.section("selections")[name])


def snapshot(run: Run, name: str = "selected") -> dict[str, bytes]:
    folder = run.root / "selections" / name
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_selection_is_exact_ordered_and_says_why_for_every_row(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run", reasons={3: "empty_response", 7: "prompt_over_limit"})
    before = (run.root / "pool/manifest.json").read_bytes()
    made = select(run.root, SelectConfig("superfiltering", "29%"))
    told = decisions(run)
    assert list(told) == [
        "id", "source", "row", "kept", "rank", "reason", "score", "gain", "nearest_kept_id",
    ]  # fmt: skip
    assert told["row"] == list(range(100)) and sum(told["kept"]) == len(made) == 29
    scores = [told["score"][i] for i in made.order]
    assert scores == sorted(scores, reverse=True) and max(scores) < 1
    assert [told["rank"][i] for i in made.order] == list(range(29))
    for kept, rank, reason, score in zip(
        told["kept"], told["rank"], told["reason"], told["score"], strict=True
    ):
        assert kept == (rank is not None) == (reason == "kept")
        if not kept:
            wanted = (
                reason.startswith("unscorable:") if score is None
                else reason == ("over_ceiling" if score >= 1 else "over_budget")
            )  # fmt: skip
            assert wanted, (reason, score)
            assert score is None or score >= 1 or score <= scores[-1]
    assert told["reason"][3] == "unscorable:empty_response" and told["score"][3] is None
    assert told["reason"][7] == "unscorable:prompt_over_limit"
    assert set(told["gain"]) == set(told["nearest_kept_id"]) == {None}
    assert (run.root / "pool/manifest.json").read_bytes() == before


def test_selected_rows_are_the_records_as_they_came_in_pick_order(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    made = select(run.root, SelectConfig("superfiltering", "10rows"))
    came = (tmp_path / "run-data/alpaca.jsonl").read_text().splitlines()
    kept = (run.root / "selections/selected/selected.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in kept] == [json.loads(came[i]) for i in made.order]
    assert selected(run)[0]["tag"] == made.order[0]
    assert kept_of(run, "selected").tolist() == made.order.tolist()


def test_run_json_tells_what_was_asked_and_delivered(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    made = select(run.root, SelectConfig("superfiltering", "10%"))
    told = facts(run)
    assert told["method"] == told["score"] == "superfiltering" and told["direction"] == "high"
    assert (told["budget"], told["unit"]) == ("10%", "rows")
    assert told["requested"] == told["delivered"] == 10 and told["stale"] == []
    lengths = pq.read_table(run.root / "scores.parquet").column("n_response_tokens").to_numpy()
    assert told["tokens"] == int(lengths[made.order].sum()) + 4 * 10
    manifest = run.store.require("selections/selected/manifest.json")
    assert manifest["reasons"]["kept"] == 10 and sum(manifest["reasons"].values()) == 100
    assert len(manifest["files"]) == 2


def test_the_order_of_the_file_changes_nothing(tmp_path: Path) -> None:
    rows = records(100)
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(100)]
    picks = []
    for name, each in (("a", rows), ("b", shuffled)):
        run = pool_run(tmp_path / name, write(tmp_path / f"{name}-data" / "x.jsonl", each))
        score_run(run)
        select(run.root, SelectConfig("superfiltering", "33rows"))
        select(run.root, SelectConfig("random", "33rows", name="r"))
        picks.append((selected(run), selected(run, "r")))
    assert picks[0] == picks[1]


def test_a_budget_that_cannot_be_met_is_refused_or_taken_short(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run", 40)
    may = sum(
        score < 1
        for score in pq.read_table(run.root / "scores.parquet")["superfiltering"].to_pylist()
    )
    with pytest.raises(UsageError, match=f"budget is 40 rows but of 40 pool rows {may}") as caught:
        select(run.root, SelectConfig("superfiltering", "100%"))
    assert caught.value.exit_code == 2 and not (run.root / "selections").exists()
    assert run.section("selections") == {}
    select(run.root, SelectConfig("superfiltering", "100%", allow_short=True))
    assert facts(run)["requested"] == 40 and facts(run)["delivered"] == may


def test_a_token_budget_is_a_prefix_that_fits(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    long = select(run.root, SelectConfig("superfiltering", "50rows", name="long"))
    made = select(run.root, SelectConfig("superfiltering", "300tokens"))
    assert made.order.tolist() == long.order[: len(made)].tolist()
    told = facts(run)
    assert (told["unit"], told["requested"], told["delivered"]) == ("tokens", 300, len(made))
    lengths = pq.read_table(run.root / "scores.parquet").column("n_response_tokens").to_numpy()
    following = int(lengths[long.order[len(made)]]) + 4
    assert told["tokens"] <= 300 < told["tokens"] + following


def test_a_missing_score_names_the_step_and_its_command(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    with pytest.raises(UsageError, match=r"no score 'ifd' yet .*superfiltering") as caught:
        select(run.root, SelectConfig("ifd", "10%"))
    assert "pilotfish score" in str(caught.value.hint) and "--method 'ifd'" in str(
        caught.value.hint
    )
    with pytest.raises(UsageError, match="no score 'mine'"):
        select(run.root, SelectConfig("superfiltering", "10%", score="mine"))
    with pytest.raises(UsageError, match="there is no run at"):
        select(tmp_path / "nowhere", SelectConfig("random", "10%"))
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(UsageError, match="holds no pool") as caught:
        Run(tmp_path / "empty").update(status="new")
        select(tmp_path / "empty", SelectConfig("random", "10%"))
    assert "pilotfish score DATA" in str(caught.value.hint)


def test_a_pool_alone_is_enough_for_random_but_not_for_token_counts(tmp_path: Path) -> None:
    run = pool_run(tmp_path / "run", write(tmp_path / "x.jsonl", records(50)))
    select(run.root, SelectConfig("random", "10%"))
    assert facts(run)["score"] is None and facts(run)["tokens"] is None
    with pytest.raises(UsageError, match="longest needs token counts") as caught:
        select(run.root, SelectConfig("longest", "10%", name="l"))
    assert "pilotfish score" in str(caught.value.hint)
    with pytest.raises(UsageError, match="token"):
        select(run.root, SelectConfig("random", "1ktokens", name="t"))
    # Scoring adds token counts to the line; the selection stays the same one.
    score_run(run)
    select(run.root, SelectConfig("random", "10%"))
    assert facts(run)["tokens"] > 0


def test_longest_needs_no_column_of_its_own(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    made = select(run.root, SelectConfig("longest", "14rows"))
    assert all(record["output"].startswith("word " * 7) for record in selected(run))
    assert (made.score[made.order] >= 36).all()


def test_seeds_draw_different_rows_and_stand_in_run_json(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    ids = {}
    for name, method, seed in (("a", "random", 0), ("b", "random", 1), ("c", "random(seed=1)", 7)):
        made = select(run.root, SelectConfig(method, "30%", name=name, seed=seed))
        ids[name] = set(made.order.tolist())
    assert ids["a"] != ids["b"] == ids["c"]
    assert [facts(run, name)["seed"] for name in "abc"] == [0, 1, 1]


def test_directions(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    score_run(run, {"perplexity": "perplexity", "superfiltering": "superfiltering"})
    with pytest.raises(UsageError, match="contradict"):
        select(run.root, SelectConfig("perplexity", "10%"))
    with pytest.raises(UsageError, match="given twice"):
        select(run.root, SelectConfig("perplexity(direction=low)", "10%", direction="high"))
    picks = {}
    for direction in ("high", "low", "middle"):
        made = select(
            run.root, SelectConfig("perplexity", "20rows", direction=direction, name=direction)
        )
        picks[direction] = np.sort(made.score[made.order])
        assert facts(run, direction)["direction"] == direction
    assert (
        picks["low"].max() <= picks["middle"].min() <= picks["middle"].max() <= picks["high"].min()
    )


def test_which_column_a_method_means(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    score_run(
        run, {"mine": "superfiltering", "perplexity(direction=low)": "perplexity(direction=low)"}
    )
    for name, method, column in (
        ("a", "superfiltering", "mine"),  # the only column that scores alike
        ("b", "superfiltering(ceiling=0.9)", "mine"),  # a knob that only picks
        ("c", "mine", "mine"),  # a column by its name
        ("d", "perplexity( direction = low )", "perplexity(direction=low)"),
        ("e", "perplexity(direction=high)", "perplexity(direction=low)"),
    ):
        select(run.root, SelectConfig(method, "10%", name=name))
        assert facts(run, name)["score"] == column, method
    select(run.root, SelectConfig(parse_method("mine"), "10%", name="f"))
    assert facts(run, "f")["method"] == "superfiltering"
    assert max(row for row, kept in zip(decisions(run, "b")["score"], decisions(run, "b")["kept"],
                                        strict=True) if kept) < 0.9  # fmt: skip
    score_run(run, {"one": "superfiltering", "two": "superfiltering"})
    with pytest.raises(UsageError, match="several scores by superfiltering: one, two"):
        select(run.root, SelectConfig("superfiltering", "10%", name="g"))
    select(run.root, SelectConfig("superfiltering", "10%", score="two", name="g"))


def test_planted_numbers_that_are_none_are_never_picked(tmp_path: Path) -> None:
    values = np.linspace(0.1, 0.9, 30)
    values[[4, 8, 12]] = np.nan, np.inf, -np.inf
    for direction in ("high", "low", "middle"):
        run = scored_run(tmp_path / direction, 30, values=values)
        made = select(
            run.root, SelectConfig("superfiltering", "100%", direction=direction, allow_short=True)
        )
        assert len(made) == 27 and not {4, 8, 12} & set(made.order.tolist())
        assert decisions(run)["reason"][8] == "unscorable:nonfinite"


def test_the_same_selection_again_is_reuse(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    select(run.root, SelectConfig("superfiltering", "10%"))
    first, manifest = snapshot(run), run.manifest
    stamps = {p: p.stat().st_mtime_ns for p in (run.root / "selections/selected").iterdir()}
    select(run.root, SelectConfig("superfiltering", "10%"))
    select(run.root, SelectConfig("superfiltering", "10%"), force=True)
    assert snapshot(run) == first and run.manifest == manifest
    assert stamps == {p: p.stat().st_mtime_ns for p in (run.root / "selections/selected").iterdir()}
    # Columns added beside the score do not make it another selection.
    score_run(run, {"superfiltering": "superfiltering", "other": "ifd"})
    select(run.root, SelectConfig("superfiltering", "10%"))
    assert snapshot(run) == first


def test_two_runs_of_the_same_data_hold_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        run = scored_run(tmp_path / name)
        select(run.root, SelectConfig("superfiltering", "10%"))
        made.append(snapshot(run))
    assert made[0] == made[1]


def test_a_taken_name_is_refused_naming_what_changed(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    select(run.root, SelectConfig("superfiltering", "10%"))
    first = snapshot(run)
    with pytest.raises(UsageError, match="another selection called 'selected': budget, delivered"):
        select(run.root, SelectConfig("superfiltering", "20%"))
    assert snapshot(run) == first
    # What run.json forgot, the manifest still tells.
    run.update(selections={})
    with pytest.raises(UsageError, match="another selection"):
        select(run.root, SelectConfig("superfiltering", "20%"))
    select(run.root, SelectConfig("superfiltering", "20%"), force=True)
    assert facts(run)["delivered"] == len(selected(run)) == 20


def test_overwriting_marks_what_was_built_on_the_old_one(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    select(run.root, SelectConfig("superfiltering", "10%"))
    draw_control(RunContext(run), Control("random"))
    for arm, selection in (("selected", "selected"), ("random", "random-0"), ("full", None)):
        run.store.write_json(f"train/{arm}/seed-0/manifest.json", {"selection": selection})
    run.store.write_json("judge/selected/seed-0.json", {"arm": "selected"})
    select(run.root, SelectConfig("superfiltering", "20%"), force=True)
    built = ["judge/selected/seed-0", "selections/random-0", "train/selected/seed-0"]
    assert facts(run)["stale"] == built
    # Drawing the control anew makes the model trained on it stale in turn.
    draw_control(RunContext(run, force=True), Control("random"))
    assert facts(run, "random-0")["stale"] == ["train/random/seed-0"]
    assert facts(run)["stale"] == ["judge/selected/seed-0", "train/selected/seed-0"]
    refresh(run, "train/selected/seed-0")
    assert facts(run)["stale"] == ["judge/selected/seed-0"]
    # The same rows again leave the marks as they are.
    select(run.root, SelectConfig("superfiltering", "20%"), force=True)
    assert facts(run)["stale"] == ["judge/selected/seed-0"]


def test_controls_have_the_size_of_the_selection(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run", 300)
    chosen = set(select(run.root, SelectConfig("superfiltering", "17%")).order.tolist())
    drawn = [draw_control(RunContext(run), Control("random", seed=seed)) for seed in (0, 1)]
    matched = [
        draw_control(RunContext(run), Control("length_matched", seed=seed)) for seed in (0, 1)
    ]
    longest = draw_control(RunContext(run), Control("longest"))
    assert {len(each) for each in (*drawn, *matched, longest)} == {51}
    assert set(run.section("selections")) == {
        "selected", "random-0", "random-1", "length_matched-0", "length_matched-1", "longest",
    }  # fmt: skip
    assert {facts(run, each.name)["of"] for each in (*drawn, *matched, longest)} == {"selected"}
    assert drawn[0].order.tolist() != drawn[1].order.tolist()
    same = select(run.root, SelectConfig("random", "51rows", name="again"))
    assert same.order.tolist() == drawn[0].order.tolist()
    lengths = np.array([len(record["output"]) for record in records(300)])
    for each in matched:
        assert not set(each.order.tolist()) & chosen
        assert facts(run, each.name)["borrowed"] == facts(run, each.name)["overlapping"] == 0
        gap = np.sort(lengths[each.order]) - np.sort(lengths[sorted(chosen)])
        assert abs(gap).max() <= 5  # a bin is one length of words wide
    reasons = set(decisions(run, "length_matched-0")["reason"])
    assert reasons == {"kept", "unmatched", "in_selection"}


def test_controls_of_what_is_not_there(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    with pytest.raises(UsageError, match="no selection 'selected'") as caught:
        draw_control(RunContext(run), Control("random"))
    assert "pilotfish select" in str(caught.value.hint)


def test_scores_of_another_pool_are_refused(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    manifest = run.store.require("scores.json")
    run.store.write_json("scores.json", {**manifest, "pool": "another"})
    with pytest.raises(UsageError, match="of another pool"):
        select(run.root, SelectConfig("superfiltering", "10%"))


def test_scores_in_another_order_are_joined_by_id(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    made = select(run.root, SelectConfig("superfiltering", "30%"))
    table = pq.read_table(run.root / "scores.parquet")
    manifest = run.store.require("scores.json")
    with run.store.attempt("scores.json") as attempt:
        pq.write_table(table.take(np.arange(99, -1, -1)), attempt.path("scores.parquet"))
        attempt.meta = {"pool": manifest["pool"]}
    again = select(run.root, SelectConfig("superfiltering", "30%", name="again"))
    assert again.order.tolist() == made.order.tolist()


def test_a_damaged_score_file_is_not_selected_from(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    with (run.root / "scores.parquet").open("ab") as handle:
        handle.write(b"x")
    with pytest.raises(DamagedRun) as caught:
        select(run.root, SelectConfig("superfiltering", "10%"))
    assert caught.value.exit_code == 6


def test_a_damaged_selection_is_made_anew(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    select(run.root, SelectConfig("superfiltering", "10%"))
    first = snapshot(run)
    (run.root / "selections/selected/selected.jsonl").write_text("{}\n")
    select(run.root, SelectConfig("superfiltering", "10%"))
    assert snapshot(run) == first


def test_a_second_planner_is_turned_away(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    with run_lock(run.root), pytest.raises(RunBusy):
        select(run.root, SelectConfig("superfiltering", "10%"))


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b"])
def test_names_that_are_no_folder_names(tmp_path: Path, name: str) -> None:
    run = scored_run(tmp_path / "run", 20)
    with pytest.raises(UsageError, match="cannot name a selection"):
        select(run.root, SelectConfig("random", "10%", name=name))


def test_selecting_loads_no_torch(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    code = f"""
import sys
from pilotfish.selection.select import SelectConfig, select
from pilotfish.diagnostics.explain import explain
select({str(run.root)!r}, SelectConfig("superfiltering", "10%"))
explain({str(run.root)!r}, row=0)
assert not {{"torch", "transformers", "datasets", "scipy"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("called", ["ranker", "picker"])  # `picker` is the older name
def test_a_method_of_ones_own_keeps_its_own_ranker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: str
) -> None:
    """Until somebody asks for an end of its scores."""
    (tmp_path / f"own_{called}.py").write_text(
        "from pilotfish.methods.rankers import Top\nfrom pilotfish.records import Need\n"
        "class Easy:\n    needs = (Need('nll'),)\n"
        "    def score(self, seen):\n        return seen[self.needs[0]].mean\n"
        f"    def {called}(self):\n        return Top('low')\n"
    )
    monkeypatch.chdir(tmp_path)
    run = scored_run(tmp_path / "run", columns={"easy": f"own_{called}:Easy"})
    run.update(scores={"easy": {"method": f"own_{called}:Easy", "direction": None}})
    scores = np.array(pq.read_table(run.root / "scores.parquet")["easy"].to_pylist())
    for direction, order in ((None, np.sort(scores)), ("high", -np.sort(-scores))):
        made = select(
            run.root, SelectConfig(f"own_{called}:Easy", "10rows", direction=direction), force=True
        )
        assert scores[made.order].tolist() == order[:10].tolist()
        assert verify(str(run.root))["selections"] == 1
