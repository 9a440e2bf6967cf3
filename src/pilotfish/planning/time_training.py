"""A few optimizer steps as a run takes them, timed: of usual rows, and of the longest ones."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pilotfish.config import TrainConfig
from pilotfish.planning.lengths import padded_step
from pilotfish.planning.throughput import Learning, Pace
from pilotfish.planning.time_scoring import timed
from pilotfish.records import Example, Ints

if TYPE_CHECKING:
    from pilotfish.models import Loaded
    from pilotfish.training.data.rows import TokenizedRows
    from pilotfish.training.loop import TrainerModule

MOST_STEPS = 40  # timed of each kind
DRAWN = 33  # steps of which a usual one is taken


def learn_some(
    name: str,
    rows: Sequence[Example],
    config: TrainConfig,
    *,
    seconds: float,
    save: float,
    teacher: "Loaded | None" = None,
    looks: bool = False,
) -> Learning:
    """Train on `rows` for about so many seconds, with the real batch, loss and LoRA.

    save: seconds to write the model. looks: whether a held-out loss is timed too.
    """
    from pilotfish.losses import make_loss
    from pilotfish.training.data.dataset import training_set_of
    from pilotfish.training.loop import TrainerModule
    from pilotfish.training.setup import prepare, seeded
    from pilotfish.training.trainer import build_learner
    from pilotfish.training.validation import held_out_loss

    loss = make_loss(config.loss)
    with seeded(0):
        load, student = timed(lambda: prepare(name, config))
        ready, lesson = timed(lambda: training_set_of(rows, student, loss, config, teacher=teacher))
        more, learner = timed(lambda: build_learner(student, loss, lesson.rows, teacher))
        steps = _Steps(TrainerModule.begin(learner, config), lesson.rows, config)
        pace = steps.pace(seconds, bf16=student.bf16)
        look = 0.0
        if looks:
            some = lesson.rows.take(range(min(16, len(lesson.rows))))
            look = timed(lambda: held_out_loss(student, some))[0] / sum(some.lengths)
    return Learning(load + more, ready / len(rows), pace, save, look)


@dataclass(frozen=True)
class _Steps:
    """Steps of one learner, each of rows that are chosen for it."""

    work: "TrainerModule"
    rows: "TokenizedRows"
    config: TrainConfig

    def pace(self, seconds: float, *, bf16: bool) -> Pace:
        """A line through what steps of usual and of long rows took, by padded positions.

        They take turns, for the machine is not equally busy all the time.
        """
        begun, order = time.monotonic(), np.argsort(self.rows.lengths, kind="stable")
        short = self._step(order)
        self._take(short, bf16=bf16)  # the optimizer's memory, first kernels
        climb = [short, *(self._step(order[int(q * len(order)) :]) for q in (0.25, 0.5))]
        points = list[tuple[float, float]]()
        for kind in [*climb, self._usual()]:  # dearer and dearer: a large model gets no further
            points.append((self._positions(kind), self._take(kind, bf16=bf16)))
            if len(points) > 1 and time.monotonic() - begun > seconds:
                return line(points[-1], points[0])
        kinds = (self._usual(), self._step(order[::-1]))
        spent: tuple[list[float], list[float]] = ([points[-1][1]], [])
        while len(spent[0]) <= MOST_STEPS and time.monotonic() - begun < seconds:
            for kind, times in zip(kinds, spent, strict=True):
                times.append(self._take(kind, bf16=bf16))
        usual, long = (
            (self._positions(kind), float(np.median(times or [0.0])))
            for kind, times in zip(kinds, spent, strict=True)
        )
        return line(usual, long if spent[1] else points[0])

    def _usual(self) -> list[int]:
        """The rows of a usual step: of several drawn ones, that with the median positions."""
        rng, many = np.random.default_rng(0), len(self.rows)
        drawn = [self._step(rng.permutation(many)) for _ in range(DRAWN)]
        return sorted(drawn, key=self._positions)[DRAWN // 2]

    def _step(self, order: Ints) -> list[int]:
        """As many of the rows as a step takes, in this order."""
        from pilotfish.data_order import rows_per_step

        return [int(i) for i in np.resize(order, rows_per_step(self.config))]

    def _positions(self, chosen: Sequence[int]) -> float:
        lengths = self.rows.lengths
        return padded_step([lengths[i] for i in chosen], self.config)

    def _take(self, chosen: Sequence[int], *, bf16: bool) -> float:
        """Seconds of a step on these very rows."""
        from pilotfish.training.loop import Plan, steps

        plan = Plan(steps=1, learning_rate=1e-6, seed=0, bf16=bf16)
        moving = steps(self.work, self.rows.take(chosen), plan, self.config)
        return timed(lambda: next(moving))[0]


def line(point: tuple[float, float], other: tuple[float, float]) -> Pace:
    """Through two (positions, seconds), neither part below zero, and right at the first."""
    (x, a), (y, b) = point, other
    far = max(x, y) > 1.2 * min(x, y)
    slope = float(np.clip((b - a) / (y - x) if far else a / x, 0.0, a / x))
    return Pace(a - slope * x, slope)
