"""Token-selective loss: which tokens are kept, by hand and on models."""

from pathlib import Path

import numpy as np
import pytest

from pilotfish.config import TrainConfig
from pilotfish.errors import UsageError
from pilotfish.models import load
from pilotfish.training.data.rows import encode_rows
from pilotfish.training.data.token_selection import (
    Excess,
    make_token_selection,
    selected_tokens,
    token_nll,
)
from pilotfish.training.setup import prepare
from pilotfish.training.trainer import train
from tests.training.conftest import weights
from tests.training.words import backwards

SMALL = TrainConfig(per_device_train_batch_size=4, max_steps=4, learning_rate=1e-3)


def test_the_highest_share_is_kept_across_rows() -> None:
    masks = Excess(keep=0.5).masks({"a": np.array([1.0, 5.0]), "b": np.array([4.0, 0.0])})
    assert masks["a"].tolist() == [0, 1] and masks["b"].tolist() == [1, 0]


def test_ties_go_by_name_and_place_whatever_the_order() -> None:
    flat = {"b": np.zeros(3), "a": np.zeros(2)}
    masks = Excess(keep=0.6).masks(flat)
    assert masks["a"].tolist() == [1, 1] and masks["b"].tolist() == [1, 0, 0]
    again = Excess(keep=0.6).masks(dict(sorted(flat.items())))
    assert all((masks[name] == again[name]).all() for name in flat)


def test_no_number_is_never_kept() -> None:
    masks = Excess(keep=1.0).masks({"a": np.array([np.nan, 1.0, np.nan])})
    assert masks["a"].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("exces", "did you mean 'excess'"),
        ("excess(kep=1)", "did you mean 'keep'"),
        ("excess(keep=0)", "above 0 and at most 1"),
        ("excess(keep=1.5)", "above 0 and at most 1"),
    ],
)
def test_a_misspelt_focus_is_said_in_words(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_token_selection(text)
    assert message in f"{caught.value} {caught.value.hint}"


def test_masks_are_those_of_the_two_models(llama: str, teacher_folder: str) -> None:
    student = prepare(llama, SMALL)
    reference = load(teacher_folder, device="cpu", precision="fp32")
    rows = encode_rows(backwards(20), student.loaded, 64)
    got, facts = selected_tokens(rows, student, reference, "excess(keep=0.3)")
    own = token_nll(student.causal, rows, vocabulary=257, bf16=False, batch=1)
    theirs = token_nll(reference.model, rows, vocabulary=257, bf16=False, batch=1)
    flat = np.concatenate([own[name] - theirs[name] for name in rows.names])
    least = np.sort(flat)[::-1][int(np.ceil(0.3 * len(flat))) - 1]
    assert got.weights is not None
    for name, weight in zip(got.names, got.weights, strict=True):
        assert weight.tolist() == (own[name] - theirs[name] >= least).astype(float).tolist()
    assert facts["focus_tokens"] == sum(got.mass) == int(np.ceil(0.3 * len(flat)))
    assert facts["focus_rows"] == len(got) <= 20


def test_losses_are_those_of_the_model_and_not_of_their_batch(llama: str) -> None:
    student = prepare(llama, SMALL)
    student.causal.train()
    rows = encode_rows(backwards(12), student.loaded, 64)
    one, many = (
        token_nll(student.causal, rows, vocabulary=257, bf16=False, batch=size) for size in (1, 16)
    )
    assert student.causal.training
    turned = token_nll(student.causal, rows.take(range(12)[::-1]), vocabulary=257, bf16=False)
    for name in rows.names:
        np.testing.assert_allclose(one[name], many[name], atol=1e-5)
        assert (turned[name] == many[name]).all()


def test_training_on_all_tokens_in_focus_is_plain_training(
    llama: str, teacher_folder: str, tmp_path: Path
) -> None:
    reference, rows = load(teacher_folder, device="cpu", precision="fp32"), backwards(12)
    facts = {}
    for name, focus in (("plain", None), ("all", "excess(keep=1)"), ("some", "excess(keep=0.4)")):
        config = SMALL.changed({"focus": focus})
        facts[name] = train(
            rows, llama, config, seed=0, folder=tmp_path / name, teacher=reference
        )  # fmt: skip
    assert weights(tmp_path / "all") == weights(tmp_path / "plain")
    assert weights(tmp_path / "some") != weights(tmp_path / "plain")
    assert facts["some"]["focus_share"] == pytest.approx(0.4, abs=0.03)
    assert facts["some"]["flops"] > facts["plain"]["flops"]


def test_a_focus_needs_a_reference_of_the_same_tokenizer(
    llama: str, stranger: str, tmp_path: Path
) -> None:
    config = SMALL.changed({"focus": "excess"})
    with pytest.raises(UsageError, match="none was given"):
        train(backwards(4), llama, config, seed=0, folder=tmp_path)
    other = load(stranger, device="cpu", precision="fp32")
    with pytest.raises(UsageError, match="have different tokenizers"):
        train(backwards(4), llama, config, seed=0, folder=tmp_path, teacher=other)
