"""The learning rate over a run."""

from typing import Literal

import pytest

from pilotfish.data_order import warmup_length
from pilotfish.training.loop import rate_factor


@pytest.mark.parametrize(
    ("warmup", "steps", "length"),
    [(0.05, 100, 5), (0.1, 15, 2), (0.0, 100, 0), (10, 100, 10), (500, 100, 99), (0.5, 1, 0)],
)
def test_warmup_is_a_share_or_a_number_and_fits_the_run(
    warmup: float, steps: int, length: int
) -> None:
    assert warmup_length(warmup, steps) == length


@pytest.mark.parametrize("shape", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0, 3, 19])
def test_every_step_learns_something_and_none_exceeds_the_peak(
    shape: Literal["linear", "cosine", "constant"], warmup: int
) -> None:
    rates = [rate_factor(s, 20, warmup=warmup, shape=shape) for s in range(20)]
    assert all(0 < rate <= 1 for rate in rates)
    assert max(rates) == rates[warmup] == 1
    assert rates[: warmup + 1] == sorted(rates[: warmup + 1])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


def test_rates_by_hand() -> None:
    line = [rate_factor(s, 6, warmup=2, shape="linear") for s in range(6)]
    assert line == pytest.approx([1 / 3, 2 / 3, 1, 0.75, 0.5, 0.25])
    assert rate_factor(4, 6, warmup=2, shape="cosine") == pytest.approx(0.5)
    assert rate_factor(5, 6, warmup=2, shape="constant") == 1
