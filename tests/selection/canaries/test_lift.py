"""Planted rows: reused or made again, reported while they are current, said in words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilotfish.diagnostics.verify import verify
from pilotfish.errors import DamagedRun
from pilotfish.report import build
from pilotfish.selection.canaries.attacks import ATTACKS
from pilotfish.selection.canaries.lift import measure_canaries
from pilotfish.selection.constraints import Constraints
from pilotfish.selection.select import SelectConfig, select
from pilotfish.store import Run
from tests.experiments.worlds import World, report
from tests.scoring.shards import hashes
from tests.selection.canaries.scored_runs import costs, made, once, records, run, weak

__all__ = ["once", "run", "weak"]


def test_nothing_else_in_the_run_changes_by_a_byte(run: Run) -> None:
    before = hashes(run.root)
    measure_canaries(run.root, ["selected"], 8)
    after = hashes(run.root)
    assert {path for path in after if path not in before} == {
        "canaries/selected.json", "canaries/selected.jsonl",
    }  # fmt: skip
    assert all(after[path] == digest for path, digest in before.items())


def test_the_same_again_measures_nothing_and_more_rows_do(run: Run) -> None:
    first = measure_canaries(run.root, ["selected"], 5)
    assert measure_canaries(run.root, ["selected"], 5) == first
    assert len(costs(run)) == 1
    assert measure_canaries(run.root, ["selected"], 6) != first
    assert len(costs(run)) == 2
    assert (
        costs(run)[0]["tokens"] > 0 and costs(run)[0]["flops"] > 0 and costs(run)[0]["rows"] == 40
    )


def test_what_was_held_against_an_older_selection_is_not_reported(run: Run) -> None:
    measure_canaries(run.root, ["selected"], 5)
    assert [one["selection"] for one in build(run)["canaries"]] == ["selected"]
    select(run.root, SelectConfig("superfiltering", "30%"), force=True)
    assert "canaries" not in build(run)
    measure_canaries(run.root, ["selected"], 5)
    assert build(run)["canaries"][0]["share"] == pytest.approx(0.3)


def test_a_flipped_byte_is_found_and_made_good(run: Run) -> None:
    measure_canaries(run.root, ["selected"], 5)
    assert verify(str(run.root))["damaged"] == []
    path = run.root / "canaries/selected.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + b"7" + whole[-8:])
    with pytest.raises(DamagedRun, match=r"canaries/selected\.jsonl"):
        verify(str(run.root))
    measure_canaries(run.root, ["selected"], 5)
    assert path.read_bytes() == whole and verify(str(run.root))["damaged"] == []


def test_selections_by_methods_without_a_direction_are_made_again(run: Run) -> None:
    for method in ("random", "longest"):
        select(run.root, SelectConfig(method, "20%", name=method))
    assert verify(str(run.root))["selections"] == 3


def test_a_pool_of_one_row_and_fewer_rows_than_asked(tmp_path: Path, weak: str) -> None:
    run = made(tmp_path / "a", records(1), weak, "perplexity(direction=low)")
    select(run.root, SelectConfig("perplexity(direction=low)", "100%"))
    found = measure_canaries(run.root, ["selected"], 20)["selected"]
    counts = {each["attack"]: each["of"] for each in found["attacks"]}
    assert counts.pop("flipped_labels") == 0 and {*counts.values()} == {1}
    assert found["injection"]["bait"]["low"] is None


def test_a_matched_control_says_why_it_is_not_measured(run: Run) -> None:
    from pilotfish.run_context import RunContext
    from pilotfish.selection.controls import Control, draw_control

    draw_control(RunContext(run), Control("length_matched"))
    found = measure_canaries(run.root, ["length_matched-0"], 5)["length_matched-0"]
    assert "draws rows to match" in found["why"] and "attacks" not in found


def test_copies_and_quotas_are_not_measured_and_say_so(run: Run) -> None:
    select(
        run.root,
        SelectConfig(
            "superfiltering", "10%", name="apart", constraints=Constraints.parse("exact", None)
        ),
    )
    found = measure_canaries(run.root, ["apart"], 5)["apart"]
    assert "copies or quotas decide" in found["why"]
    assert build(run)["canaries"][0]["why"] == found["why"]


def full(world: World, **changes: Any) -> Run:
    arms = ["base", "random", "longest", "selected"]
    return world.run(evidence="full", arms=arms, canaries=4, **changes)


def test_a_run_at_full_evidence_plants_and_prints(world: World) -> None:
    run = full(world)
    told = report(run)
    assert [one["selection"] for one in told["canaries"]] == ["longest", "random-0", "selected"]
    assert "canaries" in {stage["stage"] for stage in told["ledger"]["stages"]}
    assert "canaries" not in told["ledger"]["sentence"]  # evidence is not charged to the arm
    assert "Canary rows" in (run.root / "report.html").read_text()


def test_other_canaries_withdraw_no_model(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    full(world)
    from pilotfish.experiments import run as experiment

    monkeypatch.setattr(experiment, "withdraw_results", _refuse_any)
    run = world.run(evidence="full", arms=["base", "random", "longest", "selected"], canaries=5)
    assert report(run)["canaries"][0]["attacks"][0]["of"] == 5


def _refuse_any(run: Run, models: list[Any]) -> None:
    assert not models


def test_none_are_planted_below_full_evidence(world: World) -> None:
    run = world.run()
    assert not (run.root / "canaries").exists() and "canaries" not in report(run)


Command = Callable[..., tuple[int, str]]


def test_the_command_says_it_in_words_and_in_json(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    from pilotfish.cli.main import run as command

    asked = ["select", str(run.root), "--method", "superfiltering", "--budget", "20%",
             "--canaries", "6"]  # fmt: skip
    assert command([*asked, "--quiet"]) == 0
    assert "planted rows, judge bait: " in capsys.readouterr().out
    assert command([*asked, "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["of"] for each in told["canaries"]["attacks"]] == [6] * len(ATTACKS)
    assert command([*asked[:-1], "-3"]) == 2


def test_an_interrupt_leaves_nothing_half_and_the_same_command_ends_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pilotfish.selection.canaries import measure

    def stop(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    before = hashes(run.root)
    with monkeypatch.context() as patch:
        patch.setattr(measure.CanaryScorer, "features", stop)
        with pytest.raises(KeyboardInterrupt):
            measure_canaries(run.root, ["selected"], 5)
    assert hashes(run.root) == before
    assert measure_canaries(run.root, ["selected"], 5)["selected"]["attacks"]


def test_a_plan_has_the_canaries_of_the_run(world: World) -> None:
    from pilotfish.config import make_recipe
    from pilotfish.planning import plan as planning

    arms = ["base", "random", "longest", "selected"]
    settings = world.settings(evidence="full", arms=arms, canaries=4)
    found = planning(make_recipe(settings), probing=False)
    steps = {step.name: step for step in found.chosen.steps if step.stage == "canaries"}
    run = full(world)
    events = {event["name"]: event for event in costs(run)}
    assert steps.keys() == events.keys() == {"selected", "longest", "random-0"}
    assert {step.rows for step in steps.values()} == {32} == {e["rows"] for e in events.values()}
    # planted rows are longer than the pool's short ones
    assert 0.1 < (steps["selected"].tokens or 0) / events["selected"]["tokens"] < 1
    levels = {
        name: {step.stage for step in level.steps}
        for name, level in planning(make_recipe(world.settings()), probing=False).levels.items()
    }
    assert [name for name, stages in levels.items() if "canaries" in stages] == ["full"]
