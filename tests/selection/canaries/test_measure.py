"""Planted rows are measured as the pool was, and fall as a real pick would let them fall."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.budget import parse_budget
from pilotfish.config import parse_methods
from pilotfish.config.data import Source
from pilotfish.config.scoring import ScoreConfig
from pilotfish.data.run_pool import pool_of
from pilotfish.errors import UsageError
from pilotfish.number_formats import int8_supported
from pilotfish.records import Need, RowFeatures
from pilotfish.scoring.cascade_rows import CascadeConfig
from pilotfish.selection.canaries.attacks import ATTACKS, CONTROLS
from pilotfish.selection.canaries.lift import measure_canaries
from pilotfish.selection.canaries.measure import canaries_of
from pilotfish.selection.cascade import score_cascade
from pilotfish.selection.files import decisions_of
from pilotfish.selection.select import SelectConfig, select
from pilotfish.store import Run
from tests.selection.canaries.scored_runs import agree, lines, made, once, records, run, weak, write

__all__ = ["once", "run", "weak"]


@pytest.mark.parametrize(
    "method",
    ["superfiltering", "perplexity(direction=middle)", "ifd(ceiling=9)", "random", "longest"],
)
def test_rows_as_they_came_score_what_they_scored(run: Run, method: str) -> None:
    asked = method.replace("middle", "low") if "middle" in method else method
    direction = "middle" if "middle" in method else None
    score_by = {"method": "perplexity", "score": asked} if direction else {"method": method}
    select(run.root, SelectConfig(**score_by, budget="20%", name="other", direction=direction))  # type: ignore[arg-type]
    found = measure_canaries(run.root, ["other"], 12)["other"]
    if method != "random":  # it draws by ids
        assert agree(run, "other") == 12
    assert [each["attack"] for each in found["attacks"]] == [*ATTACKS]
    assert {each["attack"] for each in found["attacks"] if each["control"]} == {*CONTROLS}
    assert all(each["of"] == 12 for each in found["attacks"])


def fates(run: Run, name: str) -> dict[tuple[str, int], bool]:
    return {(line["attack"], line["row"]): line["kept"] for line in lines(run, name)}


PICKED = {
    "superfiltering": {"method": "superfiltering", "budget": "12rows"},
    "low": {"method": "perplexity(direction=low)", "budget": "12rows"},
    "middle": {"method": "perplexity", "score": "perplexity(direction=low)",
               "direction": "middle", "budget": "12rows"},
    "longest": {"method": "longest", "budget": "12rows"},
    "tokens": {"method": "perplexity(direction=low)", "budget": "260tokens"},
}  # fmt: skip


@pytest.mark.parametrize("attack", ["unchanged", "repeated_text", "trigger", "judge_bait"])
def test_told_is_what_happens_to_a_row_that_is_slipped_in(
    tmp_path: Path, weak: str, attack: str
) -> None:
    """The planted row is written into the data, and all is scored and picked anew."""
    rows = records(60)
    run = made(tmp_path / "a", rows, weak)
    for name, how in PICKED.items():
        select(run.root, SelectConfig(name=name, **how))  # type: ignore[arg-type]
    measure_canaries(run.root, [*PICKED], 2)
    plants = canaries_of(pool_of(run), 2)
    at = int(plants.of(attack)[0])
    row, origin = plants.rows[at], int(plants.drawn[at])
    slipped = {"prompt": row.turns[0].content, "completion": row.response}
    real = made(tmp_path / "b", [*rows, slipped], weak)
    for name, how in PICKED.items():
        select(real.root, SelectConfig(name=name, **how))  # type: ignore[arg-type]
        kept = decisions_of(real, name, "kept")["kept"].to_pylist()
        assert fates(run, name)[attack, origin] == kept[-1], name


def test_the_order_of_the_files_changes_nothing(tmp_path: Path, weak: str) -> None:
    rows, told = records(60), []
    for folder, order in (("a", rows), ("b", rows[::-1])):
        run = made(tmp_path / folder, order, weak, "perplexity(direction=low)")
        select(run.root, SelectConfig("perplexity(direction=low)", "20%"))
        found = measure_canaries(run.root, ["selected"], 10)["selected"]
        told.append([(each["attack"], each["kept"]) for each in found["attacks"]])
    assert told[0] == told[1]


def test_a_tuned_weak_model_is_found(tmp_path: Path, weak: str) -> None:
    from pilotfish.config import WeakTrainConfig

    trusted = write(tmp_path / "trusted.jsonl", records(8, seed=9))
    tune = WeakTrainConfig(learning_rate=1e-3, use_peft=False)
    run = made(
        tmp_path / "a", records(40), weak, "ifd(ceiling=9)", trusted=trusted, weak_train=tune
    )
    select(run.root, SelectConfig("ifd(ceiling=9)", "20%"))
    measure_canaries(run.root, ["selected"], 6)
    assert agree(run) == 6


def test_a_weak_model_that_is_gone_is_named(tmp_path: Path, weak: str) -> None:
    import shutil

    moved = shutil.copytree(weak, tmp_path / "gone")
    run = made(tmp_path / "a", records(40), str(moved), "ifd(ceiling=9)")
    select(run.root, SelectConfig("ifd(ceiling=9)", "20%"))
    shutil.rmtree(moved)
    with pytest.raises(UsageError, match="not there any more"):
        measure_canaries(run.root, ["selected"], 6)


def test_fast_scores_are_held_to_their_audited_cut(tmp_path: Path, weak: str) -> None:
    run = made(tmp_path / "a", records(60), weak, "ifd(ceiling=9)", precision="bf16")
    select(run.root, SelectConfig("ifd(ceiling=9)", "20%"))
    assert run.section("selections")["selected"]["audit"]["precision"] == "bf16"
    measure_canaries(run.root, ["selected"], 6)
    assert agree(run, rel=2e-2) == 6


def test_a_cascade_shows_planted_rows_to_its_cheaper_model_first(tmp_path: Path, weak: str) -> None:
    """The model as its own cheaper one: nothing is kept that the threshold leaves out."""
    draw = np.random.default_rng(0)
    rows = [{"prompt": f"{i % 7}", "completion": "".join(draw.choice(list("abcdefgh"), 4))}
            for i in range(2_400)]  # fmt: skip
    data, method = write(tmp_path / "pool.jsonl", rows), "perplexity(direction=low)"
    cheaper = CascadeConfig(weak, parse_budget("10%"))
    out = str(tmp_path / "run")
    run = score_cascade(out, Source(data), ScoreConfig(weak, parse_methods(method)), cheaper)
    assert run.section("scores")[method]["cascade"]["scored"] < 0.9 * len(rows)
    select(run.root, SelectConfig(method, "10%"))
    measure_canaries(run.root, ["selected"], 60)
    own = decisions_of(run, "selected", "score")["score"].to_pylist()
    told = [line for line in lines(run) if line["attack"] == "unchanged"]
    passed = [line for line in told if line["score"] is not None]
    assert 0 < len(passed) < len(told) == 60
    for line in passed:  # rows that calibrate or audit were read whatever the cheaper model said
        assert line["score"] == pytest.approx(own[line["row"]], rel=1e-5)
    assert not any(line["kept"] for line in told if line["score"] is None)


def shapes() -> dict[str, list[dict[str, Any]]]:
    rows = records(30)
    chat = [
        {"messages": [{"role": role, "content": text} for role, text in (
            ("user", "hello"), ("assistant", "hi"), ("user", row["prompt"]),
            ("assistant", row["completion"]))]}
        for row in rows
    ]  # fmt: skip
    return {
        "plain text": [{"text": f"{row['prompt']} {row['completion']}"} for row in rows],
        "classes": [{"text": row["prompt"], "label": "no" if i % 2 else "yes"}
                    for i, row in enumerate(rows)],
        "conversations": chat,
    }  # fmt: skip


@pytest.mark.parametrize("shape", ["plain text", "classes", "conversations"])
def test_every_shape_of_row(tmp_path: Path, weak: str, shape: str) -> None:
    run = made(tmp_path / "a", shapes()[shape], weak, "perplexity(direction=low)")
    select(run.root, SelectConfig("perplexity(direction=low)", "20%"))
    found = measure_canaries(run.root, ["selected"], 9)["selected"]
    assert agree(run) == 9
    flipped = next(each for each in found["attacks"] if each["attack"] == "flipped_labels")
    assert flipped["of"] == (0 if shape == "plain text" else 9)
    assert (flipped["lift"] is None) == (shape == "plain text")


class Relative:
    """How many rows are more surprising: a score that depends on the pool."""

    needs = (Need("nll", aligned=False),)
    direction = "low"

    def score(self, seen: RowFeatures) -> Any:
        mean = seen[self.needs[0]].mean
        return np.searchsorted(np.sort(mean), mean).astype(float)


class Plain(Relative):
    """The same order, of each row by itself."""

    pool_relative = False

    def score(self, seen: RowFeatures) -> Any:
        return seen[self.needs[0]].mean


def test_own_methods_that_look_at_the_pool_are_picked_again_whole(
    tmp_path: Path, weak: str
) -> None:
    methods = ",".join(
        f"tests.selection.canaries.test_measure:{name}" for name in ("Relative", "Plain")
    )
    run = made(tmp_path / "a", records(80), weak, methods, names=["relative", "plain"])
    found: dict[str, Mapping[str, Any]] = {}
    for name in ("relative", "plain"):
        select(run.root, SelectConfig(name, "25%", name=name))
        found |= measure_canaries(run.root, [name], 3)
    assert found["relative"]["together"] and not found["plain"]["together"]
    # three rows at once move the cut by three places at most
    places = {name: [line["place"] for line in lines(run, name)] for name in found}
    assert np.allclose(places["relative"], places["plain"], atol=3 / 80)


class Counted:
    """The shortest of the pool by tokens alone, as a share of the longest."""

    needs = ()
    direction = "low"

    def score(self, seen: RowFeatures) -> Any:
        return seen.n_response_tokens / max(1, int(seen.n_response_tokens.max()))


def test_own_methods_that_only_count_tokens(run: Run) -> None:
    method = "tests.selection.canaries.test_measure:Counted"
    select(run.root, SelectConfig(method, "25%", name="counted"))
    found = measure_canaries(run.root, ["counted"], 6)["counted"]
    assert found["together"] and agree(run, "counted") == 6
    assert next(e for e in found["attacks"] if e["attack"] == "random_tokens")["kept"] == 0


@pytest.mark.skipif(not int8_supported(), reason="this CPU has no int8 dot products")
def test_int8_scores_are_held_to_their_audited_cut(tmp_path: Path) -> None:
    from tests.tiny.models import tiny_llama

    wide = str(tiny_llama(tmp_path / "wide", hidden=64, bos=True))
    run = made(
        tmp_path / "a", records(120), wide, "ifd(ceiling=9)", precision="int8", max_length=96
    )
    select(run.root, SelectConfig("ifd(ceiling=9)", "20%"))
    assert run.section("selections")["selected"]["audit"]["precision"] == "int8"
    measure_canaries(run.root, ["selected"], 10)
    assert agree(run, rel=2e-2) == 10
