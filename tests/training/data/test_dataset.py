"""What a learner gets besides its rows: trusted marks, the frozen base, prompts to warm up on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pilotfish.config import TrainConfig
from pilotfish.errors import DataError, UsageError
from pilotfish.losses import make_loss
from pilotfish.models import load
from pilotfish.records import Example
from pilotfish.store import Store
from pilotfish.training import loop
from pilotfish.training.checkpoint import Checkpoints
from pilotfish.training.classify import train_classifier
from pilotfish.training.data.dataset import prompts_of, training_set_of
from pilotfish.training.data.row_weights import RowInfo
from pilotfish.training.data.rows import encode_rows
from pilotfish.training.lm_module import FrozenBase, LMWithLoss
from pilotfish.training.setup import prepare
from pilotfish.training.trainer import train
from tests.training.conftest import weights
from tests.training.words import backwards, pair

SMALL = TrainConfig(per_device_train_batch_size=4, max_steps=6, learning_rate=1e-3)
CORRECTED = "kd(correct=0.2)"


def test_gold_rows_get_a_corrected_teacher(llama: str, teacher_folder: str, tmp_path: Path) -> None:
    teacher, rows = load(teacher_folder, device="cpu", precision="fp32"), backwards(12)
    facts = {}
    for name, loss, sources in (
        ("plain", "kd", ["gold"] * 12),
        ("none", CORRECTED, ["pool"] * 12),
        ("gold", CORRECTED, ["gold"] * 12),
        ("half", CORRECTED, ["gold"] * 6 + ["pool"] * 6),
    ):
        facts[name] = train(
            rows, llama, SMALL.changed({"loss": loss}), seed=0, folder=tmp_path / name,
            teacher=teacher, row_info=RowInfo(sources=sources),
        )  # fmt: skip
    assert weights(tmp_path / "none") == weights(tmp_path / "plain")
    assert len({weights(tmp_path / name) for name in ("plain", "gold", "half")}) == 3
    assert "there are none" in facts["none"]["warnings"][0]
    assert "warnings" not in facts["half"]


@pytest.mark.parametrize("use_peft", [False, True])
def test_the_base_is_what_training_started_from(use_peft: bool, llama: str) -> None:
    student = prepare(llama, SMALL.changed({"use_peft": use_peft, "lora_dropout": 0.5}))
    rows = encode_rows(backwards(4), student.loaded, 64)
    loss = make_loss("mix(lm=0, kd=0, base=1)")
    learner = LMWithLoss(
        student.causal,
        loss,
        base=FrozenBase(student.causal, lora=student.model if use_peft else None),
    ).eval()
    batch = learner.collate(rows)
    assert float(learner(batch).detach()) == pytest.approx(0, abs=1e-4)
    started = load(llama, device="cpu", precision="fp32").model
    with torch.no_grad():
        for weight in student.model.parameters():
            if weight.requires_grad:
                weight += 0.05 * torch.randn(weight.shape)
        wanted = torch.log_softmax(started(batch.ids).logits.flatten(0, 1)[batch.source], -1)
        own = torch.log_softmax(student.model(batch.ids).logits.flatten(0, 1)[batch.source], -1)
        kl = (own.exp() * (own - wanted)).sum()
    assert float(learner(batch).detach()) == pytest.approx(float(kl), rel=1e-4)
    assert float(kl) > 0.01


def test_only_a_loss_that_asks_for_it_has_a_base(llama: str, tmp_path: Path) -> None:
    rows = backwards(8)
    far, near = (
        train(rows, llama, SMALL.changed({"loss": loss}), seed=0, folder=tmp_path / loss[:9])
        for loss in ("lm", "mix(lm=1, kd=0, base=5)")
    )
    assert near["flops"] > far["flops"]
    assert weights(tmp_path / "lm") != weights(tmp_path / "mix(lm=1,")


def test_prompts_are_all_that_is_not_answered(llama: str) -> None:
    student = prepare(llama, SMALL)
    rows = encode_rows(backwards(5), student.loaded, 64)
    for one, prompt in zip(rows.encoded, prompts_of(rows).encoded, strict=True):
        assert (prompt.target != one.target).all() and (prompt.ids == one.ids).all()


def test_warm_steps_see_no_answer_and_no_other_loss(llama: str) -> None:
    """Whatever the answers and the loss: the mean NLL of the prompts."""
    student = prepare(llama, SMALL)
    config, questions = SMALL.changed({"warmup_lm": 1}), backwards(6)
    others = [pair(one.prompt[0].content, "z" * (9 - i)) for i, one in enumerate(questions)]
    losses = []
    for rows, text in ((questions, "lm"), (others, "dft")):
        lesson = training_set_of(rows, student, make_loss(text), config)
        assert lesson.prompts is not None
        learner = LMWithLoss(student.causal, make_loss(text))
        learner.plain_lm = True
        losses.append(learner(learner.collate(lesson.prompts)).detach())
        learner.plain_lm = False
        losses.append(learner(learner.collate(lesson.rows)).detach())
    torch.testing.assert_close(losses[0], losses[2])
    assert abs(losses[1] - losses[3]) > 1


def test_warm_steps_come_first_and_on_top(llama: str, tmp_path: Path) -> None:
    rows = backwards(12)
    facts = train(rows, llama, SMALL.changed({"warmup_lm": 4}), seed=0, folder=tmp_path / "warm")
    assert facts["steps"] == 10 and facts["epochs"] == 6 * 4 / 12
    train(rows, llama, SMALL, seed=0, folder=tmp_path / "cold")
    assert weights(tmp_path / "cold") != weights(tmp_path / "warm")
    warm, cold = (
        [
            json.loads(line)["tokens"]
            for line in (tmp_path / name / "log.jsonl").read_text().splitlines()
        ]
        for name in ("warm", "cold")
    )
    assert warm[4:] == cold and min(warm[:4]) > max(cold)  # prompts are longer than answers


class Killed(Exception):
    """A training that ends before it should."""


@pytest.mark.parametrize("at", [2, 3, 5])
def test_a_kill_in_a_warm_up_or_behind_it_changes_nothing(
    at: int, llama: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, rows = SMALL.changed({"warmup_lm": 3}), backwards(12)
    train(rows, llama, config, seed=0, folder=tmp_path / "whole")
    where = Checkpoints(Store(tmp_path / "store"), "train/a/seed-0", "k", steps=1)
    real, made = loop.optimizer_step, [0]

    def moving(*args: Any) -> None:
        made[0] += 1
        if made[0] > at:
            raise Killed
        real(*args)

    monkeypatch.setattr(loop, "optimizer_step", moving)
    with pytest.raises(Killed):
        train(rows, llama, config, seed=0, folder=tmp_path / "cut", checkpoints=where)
    monkeypatch.setattr(loop, "optimizer_step", real)
    train(rows, llama, config, seed=0, folder=tmp_path / "again", checkpoints=where)
    assert weights(tmp_path / "again") == weights(tmp_path / "whole")


def test_a_warm_up_needs_prompts(llama: str, tmp_path: Path) -> None:
    texts = [Example(f"t{i}", "s", i, text=f"plain text {i}") for i in range(4)]
    with pytest.raises(DataError, match="no row has one"):
        train(texts, llama, SMALL.changed({"warmup_lm": 2}), seed=0, folder=tmp_path)


@pytest.mark.parametrize(
    "setting",
    [{"normalize": "rows"}, {"stop": "weak"}, {"focus": "excess"}, {"warmup_lm": 2}],
)
def test_classifiers_refuse_what_they_do_not_know(
    setting: dict[str, object], llama: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=next(iter(setting))):
        train_classifier(
            backwards(2), llama, SMALL.changed(setting), classes=["a", "b"],
            targets=np.array([0, 1]), seed=0, folder=tmp_path,
        )  # fmt: skip
