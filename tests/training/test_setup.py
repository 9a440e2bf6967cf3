"""What is decided before the first step."""

from pathlib import Path

import pytest
import torch
from torch import nn

from pilotfish.config import TrainConfig
from pilotfish.errors import UsageError
from pilotfish.losses import KD, LM, Mix, make_loss
from pilotfish.training.setup import (
    accelerator,
    build_optimizer,
    default_learning_rate,
    peak_rate,
    prepare,
    seeded,
)


@pytest.mark.parametrize(
    ("text", "loss"),
    [
        ("lm", LM()),
        ("kd(temperature=2)", KD(temperature=2)),
        ("mix(lm=0.9, kd=0.1, temperature=3)", Mix(lm=0.9, kd=0.1, temperature=3)),
        ("mix", Mix(lm=0.7, kd=0.3, temperature=1.0)),
    ],
)
def test_losses_are_read_as_typed(text: str, loss: object) -> None:
    assert make_loss(text) == loss


@pytest.mark.parametrize("text", ["lmm", "kd(temperature=-1)", "mix(lm=1", "lm(x=1)"])
def test_a_mistyped_loss_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        make_loss(text)


def test_the_words_name_weights_and_direction() -> None:
    words = make_loss("mix(lm=0.9, kd=0.1, temperature=2)").describe()
    assert "0.9 x (cross-entropy" in words
    assert "0.1 x (forward KL(teacher || student)" in words
    assert "temperature 2" in words


@pytest.mark.parametrize(
    ("trained", "rate"),
    [(1_000, 1e-3), (1_000_000, 5e-4), (10**9, 5e-4 * 1000**-0.3), (10**12, 2e-5), (0, 1e-3)],
)
def test_rule_of_thumb(trained: int, rate: float) -> None:
    assert default_learning_rate(trained, peft=False) == pytest.approx(rate)
    assert default_learning_rate(trained, peft=True) == 2e-4


def test_whose_learning_rate_counts() -> None:
    config = TrainConfig(learning_rate=3e-4)
    assert peak_rate(config, 1e-5, 10**6, peft=False) == 1e-5
    assert peak_rate(config, None, 10**6, peft=False) == 3e-4
    assert peak_rate(TrainConfig(), None, 10**6, peft=False) == pytest.approx(5e-4)
    assert peak_rate(TrainConfig(learning_rate=[1e-4]), None, 10**6, peft=False) == 1e-4


@pytest.mark.parametrize("rate", [0.0, -1e-3, 10.0, float("nan")])
def test_a_rate_out_of_range_is_refused(rate: float) -> None:
    with pytest.raises(UsageError, match="out of range"):
        peak_rate(TrainConfig(), rate, 10**6, peft=False)


def test_norms_and_biases_do_not_decay() -> None:
    layer = nn.Linear(3, 3)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.fill_(1.0)
    optimizer = build_optimizer(list(layer.parameters()), 0.5)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    for weight in layer.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert layer.weight.detach().unique().tolist() == pytest.approx([0.95])
    assert layer.bias.detach().unique().tolist() == [1.0]


def test_small_models_are_trained_whole(llama: str) -> None:
    student = prepare(llama, TrainConfig())
    assert not student.peft
    assert student.trained == student.loaded.parameters
    assert student.dropout == 0.0


def test_large_models_get_lora(llama: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilotfish.training.setup.LORA_FROM", 20_000)
    assert prepare(llama, TrainConfig()).peft
    assert not prepare(llama, TrainConfig(use_peft=False)).peft


def test_named_modules_only(llama: str) -> None:
    few = prepare(llama, TrainConfig(use_peft=True, lora_r=4, lora_target_modules=["q_proj"]))
    assert few.trained == 2 * 4 * (32 + 32)  # two layers, A and B of 4 x 32


def test_dropout_is_stated(gpt2: str, llama: str) -> None:
    assert prepare(gpt2, TrainConfig()).dropout == pytest.approx(0.1)
    lora = TrainConfig(use_peft=True, lora_dropout=0.25)
    assert prepare(llama, lora).dropout == pytest.approx(0.25)


def test_a_seed_draws_the_same_inside_and_nothing_outside() -> None:
    before = torch.get_rng_state()
    with seeded(7):
        first = torch.rand(3)
    with seeded(7):
        assert torch.equal(torch.rand(3), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_there_is_one_accelerator() -> None:
    assert accelerator() is accelerator()


def test_a_missing_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model folder"):
        prepare(str(tmp_path / "nowhere"), TrainConfig())
