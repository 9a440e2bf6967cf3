"""Error inheritance: how many of the weak model's mistakes the student repeats."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]

_LEAST_WRONG = 10  # fewer rows where the weak model is wrong say nothing
_CLOSE = 0.5  # of the weak model's mistakes repeated beyond what the ceiling repeats


@dataclass(frozen=True, slots=True)
class Inheritance:
    """Shares in [0, 1], or None where there is no row to take them from.

    Attributes:
        weak_right: Rows with equal answers of student and weak model, among those where the weak
            model is right.
        weak_wrong: The same among those where the weak model is wrong.
        wrong_given_weak_wrong: Rows that the student gets wrong where the weak model is wrong.
        ceiling_wrong_given_weak_wrong: The same of the ceiling.
        excess: The student's share minus the ceiling's, in [-1, 1]: inherited, not merely hard.
        right: Rows where the weak model is right.
        wrong: Rows where it is wrong.
    """

    weak_right: float | None
    weak_wrong: float | None
    wrong_given_weak_wrong: float | None
    ceiling_wrong_given_weak_wrong: float | None
    excess: float | None
    right: int
    wrong: int

    @property
    def alarm(self) -> str:
        """Why the student is too close to the weak model; "" where it is not, or not known."""
        if self.excess is None or self.weak_wrong is None or self.wrong < _LEAST_WRONG:
            return ""
        if self.excess < _CLOSE:
            return ""
        return (
            f"student too close to weak: it repeats {self.weak_wrong:.0%} of the weak model's "
            f"mistakes, and is wrong there {self.excess:+.0%} more often than the ceiling"
        )


def inheritance(
    student: NDArray[np.object_],
    weak: NDArray[np.object_],
    gold: NDArray[np.object_],
    *,
    ceiling: NDArray[np.object_] | None = None,
) -> Inheritance:
    """Measure error inheritance from answers to the same rows.

    Answers are labels, or normalised texts; they are compared for equality. A row with an answer
    None is left out.

    Args:
        student: The student's answers [n].
        weak: The weak model's answers [n].
        gold: The right answers [n].
        ceiling: Answers of the model trained on gold labels [n]; without them no excess is known.

    Raises:
        ValueError: The lengths differ.
    """
    given = [student, weak, gold] + ([] if ceiling is None else [ceiling])
    answers = [np.asarray(each, dtype=object) for each in given]
    if len({each.shape for each in answers}) != 1 or answers[0].ndim != 1:
        raise ValueError(f"answers must be vectors of one length: {[a.shape for a in answers]}")
    known = np.all([[value is not None for value in each] for each in answers], axis=0)
    answers = [each[known.astype(bool)] for each in answers]
    same, right = _equal(answers[0], answers[1]), _equal(answers[1], answers[2])
    missed = _share(~_equal(answers[0], answers[2]), ~right)
    base = None if ceiling is None else _share(~_equal(answers[3], answers[2]), ~right)
    return Inheritance(
        _share(same, right),
        _share(same, ~right),
        missed,
        base,
        None if missed is None or base is None else missed - base,
        int(right.sum()),
        int((~right).sum()),
    )


def _equal(a: NDArray[np.object_], b: NDArray[np.object_]) -> Bools:
    return np.array([x == y for x, y in zip(a, b, strict=True)], dtype=bool)


def _share(which: Bools, among: Bools) -> float | None:
    return float(which[among].mean()) if among.any() else None
