"""`plan`: the same models, rows and steps as the run has; prices that add up; refusals."""

import json
from pathlib import Path
from typing import Any

import pytest

from pilotfish.arms.price import price_lines
from pilotfish.config import make_recipe
from pilotfish.errors import DataError, UsageError
from pilotfish.planning import plan
from pilotfish.planning.data import counting_note, read_dataset
from pilotfish.planning.plan import read_work
from pilotfish.planning.result import Plan
from pilotfish.store import Run, Store
from tests.experiments.worlds import World, manifest, rows, write


def planned(world: World, *, probing: bool = False, **changes: Any) -> Plan:
    return plan(make_recipe(world.settings(**changes)), probing=probing, seconds=1.0)


def of(found: Plan, stage: str) -> dict[str, Any]:
    return {step.name: step for step in found.chosen.steps if step.stage == stage}


_SUMMED = ("rows", "tokens", "flops", "seconds")


def events(run: Run, stage: str) -> dict[str, dict[str, Any]]:
    """Return what the ledger records; loading and drawing have no rows."""
    found: dict[str, dict[str, Any]] = {}
    for line in (run.root / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event.get("stage") == stage and "rows" in event:
            name = event["name"]
            one = found.setdefault(name, dict.fromkeys(_SUMMED, 0) | {"name": name})
            one |= {key: one[key] + event.get(key, 0) for key in _SUMMED}  # scoring: one a shard
    return found


GRID = {
    "budgets": ["6rows", "50%"],
    "methods": {"long": "longest"},
    "matched_on": ["steps", "epochs", "tokens"],
    "arms": ["base", "random", "selected", "full"],
}


@pytest.mark.parametrize("changes", [{"evidence": "none"}, {"seeds": 2}, GRID])
def test_a_plan_has_the_models_rows_and_steps_of_the_run(
    world: World, changes: dict[str, Any]
) -> None:
    settings = {"budget": None, "train": {"num_train_epochs": 8.0, "use_peft": False,
                                          "per_device_train_batch_size": 4}, **changes}  # fmt: skip
    found, run = planned(world, **settings), world.run(**settings)
    trained = of(found, "train")
    assert trained.keys() == events(run, "train").keys()
    for name, step in trained.items():
        arm, seed = name.rsplit(" seed ", 1)
        facts = manifest(run, arm, int(seed))
        if arm.startswith("random_tokens"):  # which rows are drawn says how many fit
            assert abs(step.rows - facts["rows"]) <= 2
            continue
        assert (step.rows, step.steps) == (facts["rows"], facts["steps"]), name
    assert of(found, "judge").keys() == events(run, "judge").keys()
    assert {s.rows for s in of(found, "judge").values()} == {4}
    assert of(found, "score").keys() == events(run, "score").keys()
    assert of(found, "select").keys() == events(run, "select").keys()
    assert found.chosen.models == len(trained)


def test_scoring_and_full_training_cost_the_flops_that_the_ledger_then_records(
    world: World,
) -> None:
    settings = {"arms": ["selected", "full"], "train": {"max_steps": 6, "use_peft": False}}
    found, run = planned(world, **settings), world.run(**settings)
    for stage, name, exactly in (("score", "perplexity(direction=low)", 1e-9),
                                 ("train", "full seed 0", 0.02)):  # fmt: skip
        step, event = of(found, stage)[name], events(run, stage)[name]
        assert step.rows == event["rows"]
        assert step.flops == pytest.approx(event["flops"], rel=exactly)
        assert step.tokens == pytest.approx(event["tokens"], rel=exactly)


def test_tuning_is_planned_for_every_seed_and_takes_at_most_what_is_planned(world: World) -> None:
    settings = {"trusted": world.trusted, "seeds": 2, "arms": ["selected", "weak"]}
    found, run = planned(world, **settings), world.run(**settings)
    tuned = of(found, "tune")
    assert tuned.keys() == events(run, "tune").keys()
    facts = run.store.require("weak/manifest.json")
    assert tuned["weak seed 0"].steps >= facts["steps"]
    assert tuned["weak seed 0"].rows == facts["rows"]
    assert tuned["weak seed 0"].tokens >= 0.95 * facts["input_tokens_seen"]
    assert of(found, "score").keys() == events(run, "score").keys()
    assert list(of(found, "select")) == ["selected", "selected-1"]
    assert of(found, "judge").keys() == events(run, "judge").keys()


def test_steps_are_numbered_and_totals_are_their_sums(world: World) -> None:
    found = planned(world, seeds=2, pricing={"per_hour": 3600.0, "currency": "EUR"}).as_dict()
    steps = found["steps"]
    assert [step["n"] for step in steps] == list(range(1, len(steps) + 1))
    assert steps[0]["stage"] == "read" and steps[-1]["stage"] == "report"
    assert found["total"]["seconds"] == pytest.approx(sum(step["seconds"] for step in steps))
    assert found["total"]["money"] == pytest.approx(found["total"]["seconds"])
    assert found["total"]["flops"] == pytest.approx(sum(step["flops"] or 0 for step in steps))
    levels = found["evidence"]
    assert [levels[name]["models"] for name in ("none", "quick", "full")] == [1, 4, 18]
    assert levels["quick"] == found["total"]
    assert levels["none"]["seconds"] < levels["quick"]["seconds"] < levels["full"]["seconds"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_break_even_is_what_selecting_takes_over_training_on_all_rows(world: World) -> None:
    found = planned(world, budget="25%", train={"num_train_epochs": 2.0, "use_peft": False})
    even = found.even
    first = {step.stage: step for step in reversed(found.chosen.steps)}
    assert even.seconds == pytest.approx(first["score"].seconds + first["select"].seconds)
    assert even.needed == pytest.approx(even.seconds / even.full)
    assert "more than" in even.sentence and f"{even.needed:.1%}" in even.sentence


@pytest.mark.parametrize("changes", [{"evidence": "none"}, {"evidence": "full"}, GRID])
@pytest.mark.parametrize("metric", ["loss", "exact_match"])
def test_a_run_prints_the_models_seeds_and_flops_of_its_plan(
    world: World, changes: dict[str, Any], metric: str
) -> None:
    settings = {"trusted": world.trusted, "metric": metric, "seeds": None, **changes}
    recipe = make_recipe(world.settings(**settings))
    work = read_work(recipe, world.folder / "read")
    head, *priced = price_lines(work.resolved, work.data.pool, work.data.held_out, metric)
    wanted = planned(world, **settings).lines()[-len(priced) - 3 : -3]
    assert head == "price (rough: `pilotfish plan` measures it):"
    assert [text.partition(", about")[0] for text in priced] == [
        text.partition(", about")[0] for text in wanted
    ]
    assert len(priced) == 3 and all("FLOPs, about" in text for text in priced)


def test_a_probe_measures_and_is_named(world: World) -> None:
    found = planned(world, probing=True, trusted=world.trusted, arms=["selected", "weak"])
    machine = found.machine["probe"]
    assert machine["how"] == "probe" and machine["scored_tokens_per_second"] > 0
    assert {step.memory for step in found.chosen.steps if step.stage in ("score", "train")} == {
        "measured"
    }
    assert all(step.seconds > 0 for step in found.chosen.steps)
    text = "\n".join(found.lines())
    assert "measured by a probe" in text and "pays off only if" in text
    assert not list(world.folder.glob("run*"))


def test_longest_rows_cost_more_than_random_ones(world: World) -> None:
    long = [{**row, "completion": row["completion"] * (1 + 4 * (i % 2))}
            for i, row in enumerate(rows(24))]  # fmt: skip
    write(Path(world.pool), long)
    trained = of(planned(world, arms=["random", "longest"], seeds=1), "train")
    one, other = trained["longest seed 0"], trained["random seed 0"]
    assert one.tokens > other.tokens and one.seconds > other.seconds


def test_a_probe_that_fails_leaves_a_plan_with_the_reason(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA out of memory: tried to allocate 3 GiB\nmore")

    monkeypatch.setattr("pilotfish.planning.probe.time_training", broken)
    found = planned(world, probing=True)
    assert found.machine["probe"]["how"] == "formula"
    assert any("CUDA out of memory: tried to allocate 3 GiB)" in note for note in found.notes)
    assert found.chosen.seconds > 0


def test_large_data_is_sampled_and_the_rest_estimated_by_its_size(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(Path(world.pool), rows(3000, start=1000))
    whole = read_dataset(make_recipe(world.settings()), Store(world.folder / "whole"))
    assert whole.exact and whole.rows == 3000
    monkeypatch.setattr("pilotfish.planning.data.WHOLE_BYTES", 1000)
    monkeypatch.setattr("pilotfish.planning.data.SAMPLED_RECORDS", 500)
    some = read_dataset(make_recipe(world.settings()), Store(world.folder / "some"))
    assert not some.exact and len(some.pool) == 500
    assert some.rows == pytest.approx(3000, rel=0.05)
    assert "estimated" in counting_note(some)
    short = read_dataset(make_recipe(world.settings(limit=100)), Store(world.folder / "short"))
    assert short.exact and short.rows == 100


@pytest.mark.parametrize(
    ("changes", "error", "named"),
    [
        ({"strong": "nowhere/at-all-here"}, UsageError, "nowhere"),
        ({"data": "gone.jsonl"}, UsageError, "gone.jsonl"),
        ({"budget": "500rows"}, UsageError, "500 rows but"),
        ({"budget": "10"}, UsageError, "cannot read the budget"),
        ({"arms": ["trusted"]}, UsageError, "needs trusted rows"),
        ({"method": "perplexty"}, UsageError, "did you mean"),
        ({"method": "perplexity"}, UsageError, "which end"),
        ({"gates": {"safe": {"arm": "nope"}}}, UsageError, "guards the arm 'nope'"),
    ],
)
def test_what_a_run_would_refuse_a_plan_refuses(
    world: World, changes: dict[str, Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        planned(world, **changes)


@pytest.mark.parametrize("test", ["given", None])  # None: rows of DATA are held out, read before
def test_the_error_about_bad_records_names_no_temporary_file(
    world: World, test: str | None
) -> None:
    bad = world.folder / "bad.jsonl"
    bad.write_text("hello {\n")
    with pytest.raises(
        DataError, match=r"1 of 1 records cannot be read.*: invalid_json 1"
    ) as found:
        plan(make_recipe(world.settings(data=str(bad), test=test and world.test)), probing=False)
    assert "quarantine" not in str(found.value)
    assert f"`pilotfish inspect {bad}` counts them by reason" in str(found.value.hint)


def test_data_without_rows_are_refused(world: World) -> None:
    write(Path(world.pool), [])
    with pytest.raises(DataError):
        planned(world)
