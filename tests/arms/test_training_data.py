"""What arms are taught by the settings of `train:`, from recipe or command line to the model."""

import json
from pathlib import Path
from typing import Any

import pytest

from pilotfish.arms.arms import ARMS
from pilotfish.arms.rows import TrainingPlan
from pilotfish.arms.training_data import TrainingData, training_data_of
from pilotfish.config import TrainConfig, parse_method
from pilotfish.config.data import Source
from pilotfish.config.scoring import ScoreConfig
from pilotfish.data import overlap_keys
from pilotfish.errors import DataError, UsageError
from pilotfish.experiments.train import train_arms
from pilotfish.scoring.score import score
from pilotfish.selection.select import SelectConfig, select
from pilotfish.store import Run
from tests.experiments.worlds import World, manifest, rows, write

METHOD = parse_method("perplexity(direction=low)")
FULL, TRUSTED_FULL = ARMS["full"], ARMS["trusted_full"]


@pytest.fixture
def run(world: World) -> Run:
    found = score(str(world.out), Source(world.pool), ScoreConfig(world.weak, [METHOD]))
    select(found.root, SelectConfig(METHOD, "12rows"))
    return found


def training(run: Run, world: World, config: TrainConfig, *, trusted: bool = True) -> TrainingPlan:
    from pilotfish.data.run_pool import read_extra_rows, source_of_run

    vouched = read_extra_rows(source_of_run(run), world.trusted).examples if trusted else ()
    return TrainingPlan(world.strong, "d", config, lambda seed: None, vouched, steps=2)  # type: ignore[arg-type, return-value]


def taught(
    run: Run, world: World, arm: Any, *, trusted: bool = True, **settings: Any
) -> TrainingData:
    config = TrainConfig(**settings)
    return training_data_of(run, arm, 0, training(run, world, config, trusted=trusted), config)


def test_plain_arms_are_told_nothing(run: Run, world: World) -> None:
    material = taught(run, world, FULL)
    assert material.known is None and not material.validation and len(material.rows) == 24


def test_trusted_and_replay_rows_are_marked(run: Run, world: World) -> None:
    old = write(world.folder / "old.jsonl", rows(5, start=400))
    material = taught(run, world, TRUSTED_FULL, replay=old)
    assert material.sources == ["pool"] * 24 + ["gold"] * 10 + ["replay"] * 5
    assert material.known is not None and material.known.sources == material.sources
    assert [row.id.split(":")[0] for row in material.rows[-5:]] == ["replay"] * 5


@pytest.mark.parametrize("arm", [FULL, TRUSTED_FULL, ARMS["trusted"]])
def test_rows_to_stop_by_ask_nothing_that_is_learnt(run: Run, world: World, arm: Any) -> None:
    old = write(world.folder / "old.jsonl", [*rows(5, start=400), *rows(24), *rows(10, start=100)])
    material = taught(run, world, arm, stop="weak", replay=old)
    asked = overlap_keys([row for held in material.validation.values() for row in held])
    assert asked and not asked & overlap_keys(material.rows)
    assert len(material.validation["gold"]) == 2
    own = {"full": 24, "trusted_full": 24, "trusted": 8}[arm.name]
    assert len(material.validation["weak"]) == own // 5
    assert len(material.rows) == len(material.sources)


def test_gold_rows_to_stop_by_are_the_same_for_every_arm(run: Run, world: World) -> None:
    held = [
        [row.digest for row in taught(run, world, arm, stop="gold").validation["gold"]]
        for arm in (FULL, TRUSTED_FULL, ARMS["selected"])
    ]
    assert held[0] == held[1] == held[2]


def test_a_column_weighs_the_pool_and_nothing_else(world: World) -> None:
    heavy = [{**row, "sure": 0.1 * i} for i, row in enumerate(rows(24))]
    world.pool = write(world.folder / "heavy.jsonl", heavy)  # type: ignore[arg-type]
    run = score(str(world.out), Source(world.pool), ScoreConfig(world.weak, [METHOD]))
    material = taught(run, world, TRUSTED_FULL, weights="sure", stop="weak")
    pool = material.count("pool")
    assert material.weights[:pool] == [0.1 * row.row for row in material.rows[:pool]]
    assert set(material.weights[pool:]) == {1.0}
    with pytest.raises(DataError, match=r"no column 'sured'.*sure"):
        taught(run, world, FULL, weights="sured")


def test_weights_that_are_none_are_said_with_their_row(world: World) -> None:
    world.pool = write(world.folder / "odd.jsonl", [{**row, "w": "much"} for row in rows(24)])
    run = score(str(world.out), Source(world.pool), ScoreConfig(world.weak, [METHOD]))
    with pytest.raises(DataError, match="weighs 'much'"):
        taught(run, world, FULL, weights="w")


def test_too_few_rows_to_stop_by_are_said(run: Run, world: World) -> None:
    with pytest.raises(UsageError, match="too few"):
        taught(run, world, FULL, stop="gold", trusted=False)


def test_the_command_line_reaches_all_of_it(run: Run, world: World) -> None:
    """One arm with everything at once; the facts say what was done."""
    old = write(world.folder / "old.jsonl", rows(5, start=400))
    settings = {
        "max_steps": 6, "per_device_train_batch_size": 4, "gold_share": 0.3, "replay": old,
        "focus": "excess(keep=0.8)", "stop": "gold", "stop_every": 2, "warmup_lm": 2,
        "normalize": "rows", "learning_rate": 1e-3, "use_peft": "false",
    }  # fmt: skip
    (told,) = train_arms(
        str(run.root), world.strong, arms=["trusted_selected"], trusted=world.trusted,
        overrides=[f"train.{name}={value}" for name, value in settings.items()],
    )  # fmt: skip
    facts = manifest(run, "trusted_selected_oracle")
    assert told["arm"] == "trusted_selected_oracle" and facts["oracle"]
    assert facts["trusted_rows"] == 8 and facts["replay_rows"] == 5
    assert set(facts["mix"]) == {"gold", "replay"}
    assert facts["focus_share"] == pytest.approx(0.8, abs=0.05)
    assert facts["made_from"]["teacher"] and set(facts["made_from"]["validation"]) == {
        "gold", "weak",
    }  # fmt: skip
    assert facts["validation"][0]["step"] == 0
    said = (run.root / "run.json").read_text()
    assert "is an oracle" in said and "shares of rows" in said
    again = train_arms(
        str(run.root), world.strong, arms=["trusted_selected"], trusted=world.trusted,
        overrides=[f"train.{name}={value}" for name, value in settings.items()],
    )  # fmt: skip
    assert again == [told]


def test_a_loss_may_tell_gold_rows_from_weak_answers(run: Run, world: World) -> None:
    """B5: distil on all rows, learn the answer where a person vouches for it."""
    told = train_arms(
        str(run.root), world.strong, arms=["trusted_relabel_all", "relabel_all", "selected"],
        trusted=world.trusted, loss="mix(lm=1, kd=1, lm_on=gold)",
        overrides=["train.max_steps=2", "train.use_peft=false", "train.gold_share=0.5"],
    )  # fmt: skip
    both, weak, chosen = told
    assert both["trusted_rows"] == 10 and both["mix"]["gold"]["asked"] == 0.5
    assert "warnings" not in both
    assert "there are none" in weak["warnings"][0] and "there are none" in chosen["warnings"][0]
    assert "of gold rows" in both["loss_in_words"]


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"stop": "gold"}, "its name must say so"),
        ({"gold_share": 0.2}, "no such arm is trained"),
        ({"focus": "exces"}, "exces"),
    ],
)
def test_what_cannot_be_met_is_said_before_anything_is_spent(
    train: dict[str, Any], said: str, world: World
) -> None:
    with pytest.raises(UsageError, match=said):
        world.run(train={"max_steps": 1, **train}, trusted=world.trusted, arms=["selected"])
    assert not list(world.out.glob("train/*"))
    assert not (world.out / "scores.parquet").exists()


def test_replay_rows_that_are_not_there_stop_a_run_before_it_measures(world: World) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        world.run(train={"max_steps": 1, "replay": str(world.folder / "nowhere.jsonl")})
    assert not (world.out / "scores.parquet").exists()


def test_stopping_by_gold_needs_trusted_rows(world: World) -> None:
    oracle = {"oracle": {"of": "selected", "train": {"stop": "gold"}}}
    with pytest.raises(UsageError, match="there are none"):
        world.run(variants=oracle)


def test_a_recipe_compares_honest_and_oracle_stopping(world: World) -> None:
    kinds = {"honest": "weak", "oracle": "gold"}
    shared = {"max_steps": 4, "learning_rate": 1e-3, "use_peft": False, "stop_every": 1}
    found = world.run(
        trusted=world.trusted, arms=["selected"], train=shared, budget="12rows",
        variants={
            name: {"of": "selected", "train": {"stop": kind}} for name, kind in kinds.items()
        },
    )  # fmt: skip
    for name, kind in kinds.items():
        facts = manifest(found, name)
        assert facts["stopped_by"] == kind and facts["oracle"] == (kind == "gold")
        assert {"weak", "gold", "step"} == set(facts["validation"][0])
    logs = Path(found.root / "train/oracle/seed-0/log.jsonl").read_text().splitlines()
    assert "validation" in json.loads(logs[0])
    assert "stopped_by" not in manifest(found, "selected")
