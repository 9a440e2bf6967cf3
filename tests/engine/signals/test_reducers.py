"""The reducers: exact on uniform logits, additive, blind to how tiles and blocks are cut."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from pilotfish.engine.signals import SIGNALS
from pilotfish.engine.signals.nll import Nll
from pilotfish.engine.signals.tokens import FacetRequest, Tokens, gather


def tiled(logits: torch.Tensor, targets: torch.Tensor, width: int, *names: str, k: int = 0) -> Any:
    tiles = [
        (first, logits[:, first : first + width].float())
        for first in range(0, logits.shape[1], width)
    ]
    request = FacetRequest(frozenset(names), targets, k)
    return {name: v.numpy() for name, v in gather(tiles, request).items()}


def reduced(
    logits: torch.Tensor, targets: torch.Tensor, rows: np.ndarray, size: int, width: int = 10_000
) -> Any:
    signal = Nll()
    signal.start(int(rows.max()) + 1)
    for begin in range(0, len(rows), size):
        part = slice(begin, begin + size)
        found = tiled(logits[part], targets[part], width, "nll")
        signal.block(Tokens(rows[part], np.arange(len(rows[part])), found))
    return signal.finish()


@pytest.mark.parametrize("width", [50257, 4096, 1])
def test_uniform_logits_cost_the_log_of_the_vocabulary(width: int) -> None:
    size = 50257 if width > 1 else 300
    found = reduced(torch.zeros(5, size), torch.arange(5), np.array([0, 0, 0, 1, 1]), 5, width)
    assert found["count"].tolist() == [3, 2]
    np.testing.assert_allclose(found["total"], [3 * math.log(size), 2 * math.log(size)], rtol=1e-6)


def test_by_hand_on_two_words() -> None:
    # p(word 0) = 3/4: -log .75 for it, -log .25 for the other
    logits = torch.tensor([[math.log(3.0), 0.0]]).expand(2, 2)
    targets = torch.tensor([0, 1])
    found = reduced(logits, targets, np.array([0, 0]), 2)
    assert found["total"][0] == pytest.approx(-math.log(0.75) - math.log(0.25), rel=1e-6)
    more = tiled(logits, targets, 1, "entropy", "hit", "top_ids", "top_logs", k=2)
    by_hand = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    np.testing.assert_allclose(more["entropy"], [by_hand, by_hand], rtol=1e-6)
    assert more["hit"].tolist() == [True, False]
    assert more["top_ids"].tolist() == [[0, 1], [0, 1]]
    np.testing.assert_allclose(np.exp(more["top_logs"][0]), [0.75, 0.25], rtol=1e-6)


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


@pytest.mark.parametrize("width", [1, 3, 16, 17])
def test_tiles_do_not_change_what_is_found(width: int) -> None:
    draw = torch.Generator().manual_seed(1)
    logits = 4 * torch.randn(30, 17, generator=draw)
    targets = torch.randint(0, 17, (30,), generator=draw)
    names = ("nll", "entropy", "hit", "top_ids", "top_logs")
    whole, cut = (tiled(logits, targets, w, *names, k=4) for w in (17, width))
    for name in ("nll", "entropy", "top_logs"):
        np.testing.assert_allclose(cut[name], whole[name], atol=1e-5)
    assert (cut["hit"] == whole["hit"]).all() and (cut["top_ids"] == whole["top_ids"]).all()


@pytest.mark.parametrize("width", [1, 2, 4])
def test_ids_that_are_ruled_out_have_no_entropy(width: int) -> None:
    logits = torch.tensor([[-torch.inf, -torch.inf, 0.0, 0.0]])
    found = tiled(logits, torch.tensor([2]), width, "entropy", "nll")
    assert found["entropy"].tolist() == found["nll"].tolist() == pytest.approx([np.log(2)])


@pytest.mark.parametrize("width", [2, 3])
def test_of_equally_likely_tokens_the_lowest_id_is_top1(width: int) -> None:
    logits = torch.tensor([[0.0, 2.0, 2.0]])
    assert tiled(logits, torch.tensor([1]), width, "hit")["hit"].tolist() == [True]
    assert tiled(logits, torch.tensor([2]), width, "hit")["hit"].tolist() == [False]


def test_a_shift_of_all_logits_changes_nothing_even_when_huge() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    near, far = (reduced(x, torch.tensor([0]), np.array([0]), 1) for x in (logits, logits + 1e4))
    assert far["total"][0] == pytest.approx(near["total"][0], abs=2e-3)


def test_a_row_without_a_token_stays_at_zero_over_zero() -> None:
    found = reduced(torch.zeros(1, 3), torch.tensor([0]), np.array([2]), 1)
    assert found["count"].tolist() == [0, 0, 1]


@pytest.mark.parametrize("name", sorted(SIGNALS))
def test_every_entry_of_the_table_follows_the_protocol(name: str) -> None:
    signal = SIGNALS[name](2)
    signal.start(2)
    head = signal.facets - {"state", "draws"}
    found = tiled(torch.zeros(1, 4), torch.tensor([1]), 4, *head, k=2)
    if "state" in signal.facets:
        found["state"] = np.ones((1, 3), np.float32)
    if "draws" in signal.facets:
        found["draws"] = np.array([[1, 1]], np.int32)
    signal.block(Tokens(np.array([1]), np.array([0]), found))
    columns = signal.finish()
    assert {"total", "count"} <= columns.keys()
    assert columns["count"].tolist() == [0, 1]
    assert all(len(values) == 2 for values in columns.values())


@pytest.mark.parametrize("name", sorted(SIGNALS))
def test_no_token_at_all_is_no_error(name: str) -> None:
    signal = SIGNALS[name]()
    signal.start(3)
    assert all(len(values) == 3 for values in signal.finish().values())
