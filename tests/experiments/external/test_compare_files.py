"""compare without training: imported items and finished runs give the verdict of a run."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from pilotfish.comparison.contrast import margin_of
from pilotfish.comparison.data import ComparisonData
from pilotfish.comparison.verdict import decide
from pilotfish.diagnostics.verify import verify
from pilotfish.errors import DamagedRun, DataError, UsageError
from pilotfish.evaluation import load_results
from pilotfish.experiments.external.compare_files import (
    CompareOptions,
    compare_files,
    gates_of,
    parse_result,
)
from pilotfish.experiments.external.compare_runs import compare_runs
from pilotfish.store import Run
from tests.experiments.worlds import World

RIGHT = {"selected": 0.8, "random": 0.6, "length_matched": 0.62, "base": 0.3}


def items(folder: Path, arm: str, seed: int, *, share: float, count: int = 80) -> str:
    drawn = random.Random(f"{arm}{seed}")
    path = folder / f"{arm}-{seed}.jsonl"
    lines = [
        {"id": f"q{i}", "metric": "exact_match", "value": int(drawn.random() < share)}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"{arm}:{seed}={path}"


def results(folder: Path, *arms: str, seeds: int = 3) -> list[str]:
    return [items(folder, a, s, share=RIGHT[a]) for a in arms for s in range(seeds)]


def test_the_verdict_is_that_of_the_same_results_inside(tmp_path: Path) -> None:
    given = results(tmp_path, "selected", "random", "length_matched")
    report = compare_files(given, str(tmp_path / "run"), CompareOptions())
    inside = load_results(Run(tmp_path / "run").store)
    data = ComparisonData(inside, "exact_match", True, margin_of("exact_match"))
    verdict = decide(data, evidence="full", trusted=False)
    assert report["verdict"] == verdict.as_dict()
    assert report["verdict"]["outcome"] == "better" and report["warnings"] == []
    assert (tmp_path / "run/report.html").is_file()
    assert compare_files(given, None, CompareOptions())["verdict"] == report["verdict"]


def test_names_of_ones_own_need_a_named_pair(tmp_path: Path) -> None:
    given = [
        *(items(tmp_path, "mine", s, share=0.8) for s in range(3)),
        *(items(tmp_path, "theirs", s, share=0.5) for s in range(3)),
    ]
    with pytest.raises(UsageError, match=r"no arm is called 'selected' \(arms: mine, theirs\)"):
        compare_files(given, None, CompareOptions())
    with pytest.raises(UsageError, match="no arm is called 'random'"):
        compare_files(given, None, CompareOptions(arm="mine"))
    with pytest.raises(UsageError, match="'mine' cannot be compared with itself"):
        compare_files(given, None, CompareOptions(arm="mine", against="mine"))
    verdict = compare_files(given, None, CompareOptions(arm="mine", against="theirs"))["verdict"]
    assert (verdict["arm"], verdict["against"]) == ("mine", "theirs")
    assert verdict["outcome"] == "better"  # the two alone suffice for a claim
    assert verdict["sentence"].startswith("The arm mine beat the arm theirs")
    few = compare_files(given[1:], None, CompareOptions(arm="mine", against="theirs"))["verdict"]
    assert few["outcome"] == "not_tested"
    assert few["sentence"].endswith("A claim needs 3 seeds of both arms; mine has 2.")


def test_lower_is_better_and_a_margin_are_heeded(tmp_path: Path) -> None:
    given = results(tmp_path, "selected", "random", "length_matched")
    asked = CompareOptions(lower_is_better=True, margin=0.5)
    assert compare_files(given, None, asked)["verdict"]["outcome"] == "worse"
    assert compare_files(given, None, asked)["verdict"]["margin"] == 0.5


def test_the_same_again_is_reuse_and_others_are_refused(tmp_path: Path) -> None:
    given, out = results(tmp_path, "selected", "random"), str(tmp_path / "run")
    first = compare_files(given, out, CompareOptions())
    assert compare_files(given, out, CompareOptions()) == first
    fewer = given[:1] + given[3:4]
    with pytest.raises(UsageError, match="random:1, random:2, selected:1, selected:2 changed"):
        compare_files(fewer, out, CompareOptions())
    compare_files(fewer, out, CompareOptions(), force=True)
    assert {arm: len(s) for arm, s in load_results(Run(out).store).items()} == {
        "random": 1, "selected": 1,
    }  # fmt: skip


def test_a_gate_is_held_and_a_wrong_one_leaves_nothing_behind(tmp_path: Path) -> None:
    given = [*results(tmp_path, "selected", "random"), items(tmp_path, "base", 0, share=0.3)]
    out = str(tmp_path / "run")
    with pytest.raises(UsageError, match="no arm is called 'bass'"):
        compare_files(given, out, CompareOptions(gates=["safe(against=bass)"]))
    (gate,) = compare_files(given, out, CompareOptions(gates=["safe(against=base)"]))["gates"]
    assert (gate["name"], gate["against"], gate["outcome"]) == ("safe", "base", "pass")
    assert "gates" not in compare_files(given, out, CompareOptions())  # asked for anew each time


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("safe(agianst=base)", "agianst"),
        ("safe(margin=-1)", "margin"),
        ("safe(", "cannot read"),
    ],
)
def test_gates_are_read_or_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        gates_of([text])
    with pytest.raises(UsageError, match="two gates are called 'a'"):
        gates_of(["a", "a(margin=0.1)"])


def test_a_gate_as_an_inequality_is_the_same_gate() -> None:
    short, long = gates_of(["selected>=base-0.05"]), gates_of(["safe(against=base, margin=0.05)"])
    assert short == {"selected>=base-0.05": long["safe"]}


@pytest.mark.parametrize(
    "text", ["a.jsonl", "a=b", "a:x=b", ":0=b", "a:0=", "../up:0=b", "a b:0=c"]
)
def test_results_are_arm_seed_and_file(text: str) -> None:
    with pytest.raises(UsageError, match="cannot read the result"):
        parse_result(text)
    assert parse_result("selected@5pct:2=out/a=b.jsonl") == (("selected@5pct", 2), "out/a=b.jsonl")


def test_items_join_a_run_whose_questions_they_answer(world: World, tmp_path: Path) -> None:
    run = world.run()
    own = (run.root / "judge/selected/seed-0.jsonl").read_text()
    path = tmp_path / "there.jsonl"
    path.write_text(own)
    with pytest.raises(UsageError, match="has judged its own selected seed 0"):
        compare_files([f"selected:0={path}"], str(run.root), CompareOptions())
    report = compare_files([f"selected_trl:0={path}"], str(run.root), CompareOptions())
    means = {arm["name"]: arm["mean"] for arm in report["arms"]}
    assert means["selected_trl"] == means["selected"]
    compare_files(
        [f"selected_trl:0={path}"], str(run.root), CompareOptions()
    )  # the same again is reuse
    lines = [json.loads(line) for line in own.splitlines()]
    for changed, said in (({"hash": "0" * 32}, "1 of 4 differ"), ({"id": "new"}, "2 of 5 differ")):
        text = [{**lines[0], **changed}, *lines[1:]]
        path.write_text("".join(json.dumps(line) + "\n" for line in text))
        with pytest.raises(DataError, match=f"does not answer the test rows of .*: {said}"):
            compare_files([f"other:0={path}"], str(run.root), CompareOptions())


def imported(folder: Path, name: str, **shares: float) -> str:
    (folder / name).mkdir(parents=True)
    given = [
        items(folder / name, arm, s, share=share) for arm, share in shares.items() for s in range(3)
    ]
    given.append(items(folder / name, "base", 0, share=0.3))
    compare_files(given, str(folder / name / "run"), CompareOptions())
    return str(folder / name / "run")


def test_runs_are_joined_and_what_they_share_stands_once(tmp_path: Path) -> None:
    one = imported(tmp_path, "a", selected=0.9, random=0.6)
    two = imported(tmp_path, "b", selected=0.4, random=0.5)
    report = compare_runs([one, two], str(tmp_path / "both"), CompareOptions())
    # both folders are called run, and so are named by more of their path
    names = {arm["name"] for arm in report["arms"]}
    assert names == {
        "base", "a-run/selected", "b-run/selected", "a-run/random", "b-run/random",
    }  # fmt: skip
    verdict = report["verdict"]
    assert (verdict["arm"], verdict["against"]) == ("a-run/selected", "b-run/selected")
    assert verdict["outcome"] == "better" and report["warnings"] == []
    assert compare_runs([one, two], None, CompareOptions())["verdict"] == verdict
    other = compare_runs([one, two], None, CompareOptions(arm="b-run/selected", against="base"))[
        "verdict"
    ]
    assert (other["arm"], other["against"]) == ("b-run/selected", "base")


def refused(runs: list[str], said: str, **asked: Any) -> None:
    with pytest.raises(UsageError, match=said):
        compare_runs(runs, None, CompareOptions(**asked))


def test_runs_that_cannot_be_joined_are_refused_in_words(tmp_path: Path) -> None:
    one = imported(tmp_path, "a", selected=0.9, random=0.6)
    short = tmp_path / "c"
    short.mkdir()
    given = [items(short, arm, 0, share=0.5, count=20) for arm in ("selected", "random")]
    compare_files(given, str(short / "run"), CompareOptions())
    refused([one, str(short / "run")], "were judged on different test rows")
    refused([one, one], "are one folder")
    refused([one, str(tmp_path / "none")], "there is no run at")
    empty = Run(tmp_path / "empty")
    empty.update(status="new")
    refused([one, str(empty.root)], "holds nothing judged yet")


def test_a_verdict_inside_a_run_does_not_look_like_its_damage(tmp_path: Path) -> None:
    given, outer = results(tmp_path, "selected", "random"), tmp_path / "run"
    compare_files(given, str(outer), CompareOptions())
    compare_files(given, str(outer / "exports/trl/verdict"), CompareOptions())
    assert verify(str(outer))["files"] == len(given) + 2  # and the two of the report
    (outer / "exports/trl/verdict/judge/random/seed-0.jsonl").write_text("{}")
    assert verify(str(outer))["damaged"] == []
    with pytest.raises(DamagedRun):
        verify(str(outer / "exports/trl/verdict"))


def samples(folder: Path, task: str, *, share: float, limit: int | None = None) -> None:
    """What lm-eval leaves of one model and task: its samples, and the results beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn, date = random.Random(f"{folder}{task}"), "2026-11-23T01-02-03.456789"
    lines = [
        {"doc_id": i, "target": "4", "filtered_resps": ["4"], "filter": "none",
         "metrics": ["acc"], "acc": float(drawn.random() < share), "doc_hash": f"{task}{i}",
         "prompt_hash": "p", "target_hash": "t"}
        for i in range(40)
    ]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / f"samples_{task}_{date}.jsonl").write_text(text)
    (folder / f"results_{date}.json").write_text(json.dumps({"config": {"limit": limit}}))


def test_what_lm_eval_left_is_a_comparison_by_task(tmp_path: Path) -> None:
    given = []
    for arm, share in (("selected", 0.9), ("random", 0.5), ("length_matched", 0.5)):
        for seed in range(3):
            folder = tmp_path / f"{arm}-{seed}"
            for task in ("sums", "words"):
                limit = 40 if (arm, seed) == ("random", 1) else None
                samples(folder / "model", task, share=share, limit=limit)
            given.append(f"{arm}:{seed}={folder}")
    report = compare_files(given, str(tmp_path / "run"), CompareOptions())
    assert report["verdict"]["outcome"] == "better" and report["arms"][0]["items"] == 80
    assert {told["task"]: told["items"] for told in report["tasks"]} == {"sums": 40, "words": 40}
    (warning,) = report["warnings"]
    assert warning.startswith("random: judged with lm-eval's --limit")


def test_runs_of_a_metric_that_falls_are_compared_downwards(tmp_path: Path) -> None:
    folders = [str(tmp_path / name) for name in ("a", "b")]
    for folder, share in zip(folders, (0.8, 0.5), strict=True):
        where = tmp_path / f"of-{Path(folder).name}"
        where.mkdir()
        given = [items(where, "selected", s, share=share) for s in range(3)]
        given += [items(where, "random", s, share=0.6) for s in range(3)]
        compare_files(given, folder, CompareOptions(lower_is_better=True))
    verdict = compare_runs(folders, None, CompareOptions())["verdict"]
    assert (verdict["arm"], verdict["against"]) == ("a/selected", "b/selected")
    assert verdict["difference"] > 0.2 and verdict["outcome"] == "worse"
    with pytest.raises(UsageError, match="settled when they judged"):
        compare_runs(folders, None, CompareOptions(metric="loss"))
