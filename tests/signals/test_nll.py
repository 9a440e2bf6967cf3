"""The reducer: exact on uniform logits, additive, blind to how its blocks are cut."""

import math

import numpy as np
import pytest
import torch

from pilotfish.signals import SIGNALS, Nll


def reduced(logits: torch.Tensor, targets: torch.Tensor, rows: np.ndarray, size: int) -> dict:
    signal = Nll()
    signal.start(int(rows.max()) + 1)
    for begin in range(0, len(rows), size):
        part = slice(begin, begin + size)
        signal.block(logits[part], targets[part], rows[part])
    return signal.finish()


def test_uniform_logits_cost_the_log_of_the_vocabulary() -> None:
    found = reduced(torch.zeros(5, 50257), torch.arange(5), np.array([0, 0, 0, 1, 1]), 5)
    assert found["count"].tolist() == [3, 2]
    np.testing.assert_allclose(
        found["total"], [3 * math.log(50257), 2 * math.log(50257)], rtol=1e-6
    )


def test_by_hand_on_two_words() -> None:
    # p(word 0) = 3/4: -log .75 for it, -log .25 for the other
    logits = torch.tensor([[math.log(3.0), 0.0]]).expand(2, 2)
    found = reduced(logits, torch.tensor([0, 1]), np.array([0, 0]), 2)
    assert found["total"][0] == pytest.approx(-math.log(0.75) - math.log(0.25), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_blocks_do_not_change_a_bit(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 17, generator=draw).to(dtype)
    targets = torch.randint(0, 17, (40,), generator=draw)
    rows = np.sort(np.random.default_rng(0).integers(0, 6, 40))
    whole, pieces = (reduced(logits, targets, rows, size) for size in (40, 7))
    assert whole["total"].tolist() == pieces["total"].tolist()
    expected = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    np.testing.assert_allclose(
        whole["total"], np.bincount(rows, expected.double().numpy()), rtol=1e-6
    )


def test_a_shift_of_all_logits_changes_nothing_even_when_huge() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    near, far = (reduced(x, torch.tensor([0]), np.array([0]), 1) for x in (logits, logits + 1e4))
    assert far["total"][0] == pytest.approx(near["total"][0], abs=2e-3)


def test_a_row_without_a_token_stays_at_zero_over_zero() -> None:
    found = reduced(torch.zeros(1, 3), torch.tensor([0]), np.array([2]), 1)
    assert found["count"].tolist() == [0, 0, 1]


def test_every_entry_of_the_table_follows_the_protocol() -> None:
    for make in SIGNALS.values():
        signal = make()
        signal.start(1)
        signal.block(torch.zeros(1, 4), torch.tensor([1]), np.array([0]))
        assert {"total", "count"} <= signal.finish().keys()
