"""`run`: what a seed decides, what is reused, what is refused, what never stands side by side."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from pilotfish.arms.training_data import TrainingData, TrainingPlan, hold_out_gold
from pilotfish.config.settings import RENAMED
from pilotfish.data.held_out import test_rows as stored_test
from pilotfish.errors import UsageError
from pilotfish.experiments.evaluate import write_report
from pilotfish.experiments.train import train_arms
from pilotfish.records import Example, Turn
from tests.experiments.worlds import World, kept, manifest, report, rows, write
from tests.tiny.models import tiny_llama


def weights(run: Any, arm: str, seed: int = 0) -> bytes:
    return bytes((run.root / f"train/{arm}/seed-{seed}/model.safetensors").read_bytes())


def test_the_seed_of_a_recipe_shifts_every_draw_and_not_the_hold_out_alone(world: World) -> None:
    one = world.run(trusted=world.trusted)
    other = world.run(trusted=world.trusted, seed=5, out=world.folder / "other")
    assert kept(one, "random-0") != kept(other, "random-0")
    assert weights(one, "selected") != weights(other, "selected")
    tuned = [run.store.require("weak/manifest.json")["made_from"]["seed"] for run in (one, other)]
    assert tuned == [0, 5000]
    # names and reports count seeds from 0 whatever they draw with
    assert [arm["seeds"] for arm in report(other)["arms"]] == [[0], [0], [0]]


def test_a_weak_model_tuned_anew_per_seed_gives_each_seed_its_selection(world: World) -> None:
    run = world.run(trusted=world.trusted, seeds=2, arms=["selected", "weak"])
    assert [manifest(run, "selected", s)["selection"] for s in (0, 1)] == ["selected", "selected-1"]
    assert {arm["name"]: arm["seeds"] for arm in report(run)["arms"]} == {
        "selected": [0, 1], "weak": [0, 1],
    }  # fmt: skip
    plain = world.run(seeds=2, arms=["selected", "weak"], out=world.folder / "plain")
    assert [manifest(plain, "selected", s)["selection"] for s in (0, 1)] == ["selected"] * 2
    assert {arm["name"]: arm["seeds"] for arm in report(plain)["arms"]} == {
        "selected": [0, 1], "weak": [0],
    }  # fmt: skip


def test_another_model_under_the_same_name_is_trained_again(world: World) -> None:
    world.strong = str(shutil.copytree(world.strong, world.folder / "strong"))
    before = weights(world.run(arms=["selected"]), "selected")
    shutil.rmtree(world.strong)
    tiny_llama(Path(world.strong), seed=9, hidden=16, layers=1)
    assert weights(world.run(arms=["selected"]), "selected") != before


def test_a_narrower_recipe_reports_no_arm_of_the_wider_one(world: World) -> None:
    world.run(arms=["base", "random", "selected", "full"])
    run = world.run(arms=["random", "selected"], train={"max_steps": 2, "use_peft": False})
    judged = {arm["name"] for arm in report(run)["arms"] if arm["mean"] is not None}
    assert judged == {"random", "selected"}
    assert {manifest(run, arm)["steps"] for arm in judged} == {2}


def test_fewer_seeds_report_no_result_of_the_seeds_left_out(world: World) -> None:
    world.run(seeds=2, arms=["selected"])
    assert [arm["seeds"] for arm in report(world.run(arms=["selected"]))["arms"]] == [[0]]


def test_more_seeds_keep_what_is_there(world: World) -> None:
    first = world.run(arms=["random", "selected"])
    stamp = (first.root / "train/selected/seed-0/model.safetensors").stat().st_mtime_ns
    items = (first.root / "judge/selected/seed-0.jsonl").stat().st_mtime_ns
    run = world.run(arms=["random", "selected"], seeds=2)
    assert (run.root / "train/selected/seed-0/model.safetensors").stat().st_mtime_ns == stamp
    assert (run.root / "judge/selected/seed-0.jsonl").stat().st_mtime_ns == items
    assert [arm["seeds"] for arm in report(run)["arms"]] == [[0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"budget": "5rows"}, "budget"),
        ({"method": "perplexity(direction=high)"}, "method"),
        ({"max_length": 30}, "max_length"),
        ({"metric": "exact_match"}, "metric"),
    ],
)
def test_a_refused_run_still_tells_what_it_told_before(
    world: World, changes: dict[str, Any], named: str
) -> None:
    run = world.run(arms=["selected"])
    before = {name: run.manifest[name] for name in ("config", "evidence", "status")}
    told = report(run)
    with pytest.raises(UsageError, match=named):
        world.run(arms=["selected"], **changes)
    assert {name: run.manifest[name] for name in before} == before and report(run) == told


def test_another_tuning_of_the_weak_model_is_refused_before_the_old_one_is_lost(
    world: World,
) -> None:
    run = world.run(trusted=world.trusted, arms=["selected"])
    before = (run.root / "weak/model.safetensors").read_bytes()
    tune = {"learning_rate": 5e-3, "use_peft": False}
    with pytest.raises(UsageError, match="tuned with another config"):
        world.run(trusted=world.trusted, arms=["selected"], weak_train=tune)
    assert (run.root / "weak/model.safetensors").read_bytes() == before
    again = world.run(trusted=world.trusted, arms=["selected"], weak_train=tune, force=True)
    assert (again.root / "weak/model.safetensors").read_bytes() != before
    assert report(again)["provenance"]["weak"]["name"] == world.weak


def test_a_learning_rate_is_not_chosen_on_rows_the_arm_learns() -> None:
    def example(name: str, prompt: str) -> Example:
        return Example(name, "s", 0, (Turn("user", prompt), Turn("assistant", "a")))

    trusted = [example(str(i), f"trusted {i}") for i in range(10)]
    # as `rows_of` makes them: ids of trusted rows carry a prefix, pool rows may share bare ids
    arm = [example(str(i), f"pool {i}") for i in range(10)]
    arm += [example(f"trusted:{each.id}", each.prompt[0].content) for each in trusted]
    training = TrainingPlan("m", "d", None, lambda seed: None, trusted)  # type: ignore[arg-type, return-value]
    held = hold_out_gold(training)
    learnt = TrainingData(arm, ["pool"] * 10 + ["gold"] * 10).without(held)
    asked = {row.prompt for row in held}
    assert len(held) == 2 and len(learnt.rows) == 18
    assert learnt.sources == ["pool"] * 10 + ["gold"] * 8
    assert not asked & {row.prompt for row in learnt.rows}


def test_a_resumed_run_keeps_the_learning_rate_that_seed_0_chose(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def choose(*_: object, seed: int, **__: object) -> float:
        calls.append(seed)
        return 1e-3 if seed == 0 else 1e-4

    monkeypatch.setattr("pilotfish.training.tune.pick_learning_rate", choose)
    recipe = {
        "trusted": world.trusted, "arms": ["selected"],
        "train": {"max_steps": 1, "use_peft": False, "learning_rate": [1e-3, 1e-4]},
    }  # fmt: skip
    world.run(**recipe)
    run = world.run(**recipe, seeds=2)
    assert calls == [0]
    assert [manifest(run, "selected", seed)["learning_rate"] for seed in (0, 1)] == [1e-3, 1e-3]


def test_every_arm_takes_the_same_steps_and_test_rows_are_in_none(world: World) -> None:
    write(Path(world.pool), [*rows(24), *rows(2, start=200)])
    write(Path(world.trusted), [*rows(10, start=100), *rows(1, start=201)])
    arms = ["full", "selected", "trusted", "trusted_selected", "relabel_all"]
    run = world.run(trusted=world.trusted, arms=arms, train={"num_train_epochs": 2.0})
    assert {manifest(run, arm)["steps"] for arm in arms} == {1}
    assert manifest(run, "full")["rows"] == 24 and manifest(run, "trusted")["rows"] == 10


def test_test_rows_come_back_with_the_ids_they_were_judged_by(world: World) -> None:
    # repeated ids make a pool use content hashes; the part held out of it has no repeated ones
    twice = [{"id": str(i // 2), **row} for i, row in enumerate(rows(40))]
    write(Path(world.pool), twice)
    run = world.run(test=None, arms=["selected"], test_rows=5)
    judged = (run.root / "judge/selected/seed-0.jsonl").read_text()
    stored = stored_test(run)
    assert len(stored) == 5 and all(f'"id": "{row.id}"' in judged for row in stored)
    assert run.section("test")["held_out"] == "pool"


def test_an_unknown_loss_or_method_stops_before_anything_is_written(world: World) -> None:
    for changes in ({"losses": {"mine": "mixx"}}, {"method": "perplexty"}):
        with pytest.raises(UsageError, match="did you mean"):
            world.run(**changes)
    assert not (world.out / "pool").exists()


def test_a_run_whose_settings_have_older_names_opens_and_goes_on(world: World) -> None:
    settings = {"arms": ["random", "selected"], "matched_on": ["steps", "tokens"]}
    settings["pricing"] = {"per_hour": 2.5}
    run = world.run(**settings)
    before = report(run)
    old = {new: old for old, new in RENAMED.items()}
    for name in ("config", "evidence"):
        section = {old.get(key, key): value for key, value in run.section(name).items()}
        assert {*section} & {*RENAMED}
        run.update(**{name: section})
    after = write_report(str(run.root))
    assert {**after, "ledger": None} == {**before, "ledger": None}  # writing it took time too
    assert "money at 2.5 USD an hour" in (run.root / "report.html").read_text()
    items = sorted((run.root / "judge").rglob("*.jsonl"))
    stamps = [path.stat().st_mtime_ns for path in items]
    train_arms(str(run.root), world.strong, arms=["selected"])
    world.run(**settings)
    assert items and [path.stat().st_mtime_ns for path in items] == stamps
    assert not {*run.section("config")} & {*RENAMED}
