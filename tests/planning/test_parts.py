"""What a plan counts with: lengths, steps, lines through measured points, numbers by hand."""

from pathlib import Path

import numpy as np
import pytest

from pilotfish.arms.price import Pace
from pilotfish.arms.workload import ModelInfo, TuningWork, mean_context, selection_kind
from pilotfish.config import TrainConfig, WeakTrainConfig, make_recipe
from pilotfish.planning import plan
from pilotfish.planning.probe import ProbeClock, line
from pilotfish.planning.steps import reading_bytes, training_bytes
from pilotfish.planning.throughput import config_key, padded_positions, step_positions
from pilotfish.progress import duration
from tests.experiments.worlds import World, write


def test_flops_of_a_tiny_model_by_hand(world: World) -> None:
    # 16 wide, 1 layer: 4 x 16 x 16 attention, 3 x 16 x 32 body, 3 norms of 16; 257 ids
    weak = ModelInfo.read(world.weak)
    assert weak.shape is not None
    assert (weak.shape.body, weak.shape.vocab, weak.shape.width) == (2608, 257, 16)
    same = [{"prompt": f"say {i}", "completion": f"{i} it"} for i in range(10, 30)]
    write(Path(world.pool), same)
    found = plan(make_recipe(world.settings(arms=["full"])), probing=False)
    score = next(step for step in found.chosen.steps if step.stage == "score")
    assert score.tokens is not None
    length = score.tokens / 20
    assert length == int(length) >= len("say 1010 it")
    each = 2 * 2608 + 2 * 16 * 257 + 4 * 1 * (length / 2) * 16
    assert score.flops == pytest.approx(20 * length * each)
    train = next(step for step in found.chosen.steps if step.stage == "train")
    assert train.steps == 1 and train.rows == 20 and train.tokens is not None
    learned = train.tokens / 16  # the batch
    each = 2 * 2608 + 2 * 16 * 257 + 4 * 1 * (learned / 2) * 16
    assert train.flops == pytest.approx(3 * 16 * learned * each)


def test_positions_of_a_step_are_padded_within_each_micro_batch_alone() -> None:
    config = TrainConfig(per_device_train_batch_size=2, gradient_accumulation_steps=2)
    # longest first: (9, 5) and (4, 1)
    assert padded_positions([4, 9, 1, 5], config) == 2 * 9 + 2 * 4
    assert step_positions(np.array([7, 7, 7]), config) == 4 * 7
    assert step_positions(np.array([0, 0]), config) == 0.0
    short, long = np.array([2, 3, 4] * 5), np.array([20, 30, 40] * 5)
    assert step_positions(long, config) == 10 * step_positions(short, config)


def test_positions_in_view_are_half_a_row_and_more_where_lengths_differ() -> None:
    assert mean_context(np.array([8, 8])) == 4.0
    assert mean_context(np.array([1, 15])) == (1 + 225) / (2 * 16)
    assert mean_context(np.zeros(0, dtype=np.int64)) == 0.0


def test_tuning_counts_every_rate_and_epoch_of_small_batches() -> None:
    # 100 rows: 80 learned, 20 held out; batches of 80 // 16 = 5, so 16 steps an epoch
    tuning = TuningWork.count(WeakTrainConfig(), np.full(100, 10))
    assert tuning.config.per_device_train_batch_size == 5
    assert tuning.steps == 3 * 10 * 16
    assert tuning.learned == tuning.steps * 5 * 10
    assert tuning.held_out == 3 * 11 * 20 * 10
    assert TuningWork.count(WeakTrainConfig(learning_rate=1e-3), np.full(100, 10)).steps == 160
    assert (
        TuningWork.count(WeakTrainConfig(learning_rate=[1e-3, 1e-4]), np.full(100, 10)).steps == 320
    )


def test_a_line_is_right_at_its_first_point_and_never_falls_or_starts_below_zero() -> None:
    assert line((100, 2.0), (200, 3.0)) == Pace(1.0, 0.01)
    assert line((200, 3.0), (100, 2.0)) == Pace(1.0, 0.01)
    assert line((100, 2.0), (200, 1.0)) == Pace(2.0, 0.0)
    assert line((100, 2.0), (200, 9.0)) == Pace(0.0, 0.02)
    assert line((100, 2.0), (101, 2.5)) == Pace(0.0, 0.02)  # too near to tell
    assert line((20, 1.5), (10, 1.0)) == Pace(0.5, 0.05)
    assert line((20, 0.5), (10, 1.0))(20) == 0.5


def test_selections_of_other_budgets_and_seeds_have_the_stem_of_the_first() -> None:
    names = ("selected", "selected@5pct", "random-{seed}", "random@500rows-{seed}", "longest@5pct")
    assert [selection_kind(each) for each in names] == [
        "selected",
        "selected",
        "random",
        "random",
        "longest",
    ]


def test_settings_that_change_no_step_share_one_timing() -> None:
    plain = TrainConfig()
    assert config_key(plain) == config_key(plain.changed({"learning_rate": 1e-3, "max_steps": 9}))
    assert config_key(plain) != config_key(plain.changed({"per_device_train_batch_size": 2}))


def test_memory_grows_with_what_is_held(world: World) -> None:
    model = ModelInfo.read(world.strong)
    assert reading_bytes(model, 2000) > reading_bytes(model, 100)
    full = training_bytes(model, TrainConfig(), 100, lora=False, bf16=False)
    more = training_bytes(model, TrainConfig(), 1000, lora=False, bf16=False)
    assert full - reading_bytes(model, 0) > 11 * model.parameters and more > full
    clock = ProbeClock(1.0)
    with clock.stage("train"):
        held = np.ones(2**24)
    assert held.size and clock.peak.get("train", held.nbytes + 1) > held.nbytes


def test_times_are_given_in_units_that_fit_them() -> None:
    seconds = (0.04, 9.94, 42.0, 600.0, 7200.0, 864_000.0)
    assert [duration(each) for each in seconds] == [
        "0.0 s", "9.9 s", "42 s", "10 min", "2.0 h", "10 days",
    ]  # fmt: skip
