"""Weights of rows and tokens: what they change, and what they leave as it was."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pilotfish.config import TrainConfig
from pilotfish.errors import DataError
from pilotfish.losses import LM
from pilotfish.training.data.row_weights import RowInfo, normalized, weigh_tokens, with_sources
from pilotfish.training.data.rows import TokenizedRows, encode_rows
from pilotfish.training.lm_module import LMWithLoss
from pilotfish.training.loop import accumulate
from pilotfish.training.setup import Student, accelerator, prepare
from pilotfish.training.trainer import train
from tests.training.conftest import weights
from tests.training.words import backwards

SMALL = TrainConfig(per_device_train_batch_size=4, max_steps=6, learning_rate=1e-3)


@pytest.fixture
def student(llama: str) -> Student:
    return prepare(llama, SMALL)


@pytest.fixture
def rows(student: Student) -> TokenizedRows:
    return encode_rows(backwards(8), student.loaded, 64)


def learnt(student: Student, rows: TokenizedRows, *, cut: int = 8) -> tuple[float, torch.Tensor]:
    """Loss and gradient of one step over all the rows, in parts of `cut`."""
    student.model.zero_grad()
    learner = LMWithLoss(student.model, LM())
    parts = [rows.take(range(len(rows))[at : at + cut]) for at in range(0, len(rows), cut)]
    batches = [learner.collate(part) for part in parts]
    mass = sum(rows.mass)
    loss = accumulate(learner, batches, mass, bf16=False, accelerator=accelerator())
    grads = [p.grad.flatten() for p in student.model.parameters() if p.grad is not None]
    return float(loss), torch.cat(grads)


def same(one: Any, other: Any) -> None:
    assert one[0] == pytest.approx(other[0], rel=1e-6)
    torch.testing.assert_close(one[1], other[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("by", ["tokens", "rows"])
@pytest.mark.parametrize("weight", [1.0, 0.3, 7.0])
def test_equal_weights_are_none(
    student: Student, rows: TokenizedRows, by: Any, weight: float
) -> None:
    alike = weigh_tokens(rows, [weight] * 8)
    same(learnt(student, normalized(alike, by)), learnt(student, normalized(rows, by)))


@pytest.mark.parametrize("by", ["tokens", "rows"])
def test_a_row_of_weight_0_is_not_there(student: Student, rows: TokenizedRows, by: Any) -> None:
    some = weigh_tokens(rows, [1, 0, 1, 1, 0, 1, 1, 1])
    assert len(some) == 6 and some.unsupervised == 2
    rest = rows.take([0, 2, 3, 5, 6, 7])
    same(learnt(student, normalized(some, by)), learnt(student, normalized(rest, by)))


def test_a_row_of_weight_2_is_there_twice(student: Student, rows: TokenizedRows) -> None:
    twice = rows.take([0, 0, *range(1, 8)])
    for by in ("tokens", "rows"):
        heavy = weigh_tokens(rows, [2.0] + [1.0] * 7)
        same(learnt(student, normalized(heavy, by)), learnt(student, normalized(twice, by)))  # type: ignore[arg-type]


def test_by_hand(student: Student, rows: TokenizedRows) -> None:
    """Weighted means of per-row losses, each way."""
    each = [learnt(student, rows.take([i]))[0] for i in range(8)]
    weight, count = np.arange(1.0, 9.0), np.array(rows.tokens)
    heavy = weigh_tokens(rows, weight.tolist())
    by_tokens = (weight * count * each).sum() / (weight * count).sum()
    by_rows = (weight * each).sum() / weight.sum()
    assert learnt(student, heavy)[0] == pytest.approx(by_tokens, rel=1e-5)
    assert learnt(student, normalized(heavy, "rows"))[0] == pytest.approx(by_rows, rel=1e-5)
    assert abs(by_rows - by_tokens) > 1e-3


def test_weights_do_not_hang_on_micro_batches(student: Student, rows: TokenizedRows) -> None:
    draw = np.random.default_rng(0)
    heavy = weigh_tokens(rows, [draw.random(count) for count in rows.tokens])
    for cut in (1, 3, 5):
        same(learnt(student, heavy, cut=cut), learnt(student, heavy))


def test_tokens_of_weight_0_teach_nothing(student: Student, rows: TokenizedRows) -> None:
    """Like rows whose only supervised tokens are the others."""
    first = weigh_tokens(rows, [np.eye(count)[0] for count in rows.tokens])
    encoded = []
    for one in rows.encoded:
        target = np.zeros_like(one.target)
        target[np.flatnonzero(one.target[1:])[0] + 1] = True
        encoded.append(replace(one, target=target))
    same(learnt(student, first), learnt(student, TokenizedRows(encoded, rows.names, [1] * 8)))
    assert first.mass == [1.0] * 8


@pytest.mark.parametrize(
    ("known", "message"),
    [
        (RowInfo(weights=[1.0] * 7), "8 rows have 7 weights"),
        (RowInfo(sources=["pool"]), "8 rows have 1 sources"),
        (RowInfo(weights=[1.0] * 7 + [-1.0]), "row 'r7' has a weight that is no number"),
        (RowInfo(weights=[float("nan")] * 8), "no number of at least 0"),
        (RowInfo(weights=[0.0] * 8), "none of the 8 rows weighs anything"),
        (RowInfo(weights=[np.ones(99)] * 8), "99 weights"),
    ],
)
def test_weights_that_are_none_are_said_in_words(
    student: Student, known: RowInfo, message: str
) -> None:
    examples = backwards(8)
    with pytest.raises(DataError, match=message):
        with_sources(encode_rows(examples, student.loaded, 64), examples, known)


def test_sources_mark_gold_tokens(student: Student) -> None:
    examples = backwards(3)
    rows = with_sources(
        encode_rows(examples, student.loaded, 64),
        examples,
        RowInfo(sources=["pool", "gold", "replay"]),
    )
    given = LMWithLoss(student.model, LM()).collate(rows).inputs
    assert given.trusted is not None
    counts = rows.tokens
    assert given.trusted.tolist() == [False] * counts[0] + [True] * counts[1] + [False] * counts[2]


def test_training_takes_weights_and_says_the_normaliser(llama: str, tmp_path: Path) -> None:
    rows, plain = backwards(12), SMALL
    half = RowInfo(weights=[1.0] * 6 + [0.0] * 6)
    facts = train(rows, llama, plain, seed=0, folder=tmp_path / "a", row_info=half)
    train(rows[:6], llama, plain, seed=0, folder=tmp_path / "b")
    assert (facts["rows"], facts["unsupervised"], facts["normalize"]) == (6, 6, "tokens")
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    by_rows = plain.changed({"normalize": "rows"})
    facts = train(rows[:6], llama, by_rows, seed=0, folder=tmp_path / "c")
    assert facts["normalize"] == "rows"
    assert weights(tmp_path / "c") != weights(tmp_path / "b")
