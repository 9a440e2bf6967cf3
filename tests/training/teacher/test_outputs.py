"""A stored teacher in training: the online loss and gradient, and nothing shifted to fit."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pilotfish.config import TrainConfig
from pilotfish.data_order import row_name
from pilotfish.errors import UsageError
from pilotfish.losses import make_loss
from pilotfish.models import Loaded, load
from pilotfish.records import Example, Turn
from pilotfish.tokenization import encode_training
from pilotfish.training.data.rows import TokenizedRows, encode_rows, with_teacher_outputs
from pilotfish.training.lm_module import LMWithLoss
from pilotfish.training.teacher.outputs import TeacherOutputs, captured_mass, check_stored
from pilotfish.training.trainer import train
from tests.training.words import backwards

TALK = Example("talk", "s", 0, turns=(
    Turn("user", "one"), Turn("assistant", "first"), Turn("user", "two"), Turn("assistant", "last"),
))  # fmt: skip
LIMIT = 20  # TALK is cut in its last reply
EXAMPLES = [TALK, *backwards(5)]


def log_probs(teacher: Loaded, example: Example, limit: int) -> tuple[Tensor, int]:
    """([t, v] log-probabilities at the supervised tokens, digest of what was read)."""
    [row] = encode_training([example], teacher.tokenizer, limit)
    with torch.no_grad():
        logits = teacher.model(torch.from_numpy(row.ids.astype(np.int64))[None]).logits[0]
    return logits.log_softmax(-1)[np.flatnonzero(row.target) - 1], row.digest


def stored(
    teacher: Loaded, kind: str, *, k: int = 0, limit: int = LIMIT
) -> dict[str, TeacherOutputs]:
    found = {}
    for example in EXAMPLES:
        logs, read = log_probs(teacher, example, limit)
        if kind == "dense":
            arrays = {"logits": logs.numpy()}
        else:
            top = logs.topk(k or logs.shape[1])
            rest = (1 - top.values.exp().sum(-1)).clamp(min=0)
            arrays = {"ids": top.indices.numpy(), "logs": top.values.numpy(), "rest": rest.numpy()}
        found[row_name(example)] = TeacherOutputs(kind, arrays, read)
    return found


def step(learner: LMWithLoss, rows: TokenizedRows) -> tuple[Tensor, list[Tensor]]:
    learner.model.requires_grad_(True)
    learner.zero_grad()
    loss = learner(learner.collate(rows))
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in learner.parameters() if p.grad is not None]


@pytest.mark.parametrize("kind", ["topk", "dense"])
@pytest.mark.parametrize(
    "loss", ["kd", "mix(lm=0.6, kd=0.4, divergence=reverse)", "kd(divergence=jsd)"]
)
def test_all_of_a_teacher_stored_is_the_teacher(
    llama: str, teacher_folder: str, kind: str, loss: str
) -> None:
    student, teacher = load(llama, device="cpu"), load(teacher_folder, device="cpu")
    rows = encode_rows(EXAMPLES, student, LIMIT)
    assert rows.truncated
    online = LMWithLoss(
        student.model, make_loss(loss), teacher=teacher.model, vocabulary=len(student.tokenizer)
    )
    cached = LMWithLoss(student.model, make_loss(loss), vocabulary=len(student.tokenizer))
    expected, gradients = step(online, rows)
    found, same = step(cached, with_teacher_outputs(rows, stored(teacher, kind)))
    assert float(found) == pytest.approx(float(expected), rel=1e-6, abs=1e-5)
    for one, other in zip(same, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_less_than_all_is_a_coarser_divergence(llama: str, teacher_folder: str) -> None:
    student, teacher = load(llama, device="cpu"), load(teacher_folder, device="cpu")
    rows = encode_rows(EXAMPLES, student, LIMIT)
    learner = LMWithLoss(student.model, make_loss("kd"), vocabulary=len(student.tokenizer))
    losses = [
        float(learner(learner.collate(with_teacher_outputs(rows, stored(teacher, "topk", k=k)))))
        for k in (1, 16, 128)
    ]
    whole = float(learner(learner.collate(with_teacher_outputs(rows, stored(teacher, "dense")))))
    assert 0 < losses[0] < losses[1] < losses[2] < whole


def test_rows_that_are_other_tokens_now_are_refused(llama: str, teacher_folder: str) -> None:
    student, teacher = load(llama, device="cpu"), load(teacher_folder, device="cpu")
    taught = stored(teacher, "topk", k=4)
    with pytest.raises(UsageError, match="1 of 6 rows are other tokens now"):
        with_teacher_outputs(encode_rows(EXAMPLES, student, LIMIT + 1), taught)
    student.tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    with pytest.raises(UsageError, match="chat template, tokenizer or max_length"):
        with_teacher_outputs(encode_rows(EXAMPLES[1:], student, 64), taught)


def test_rows_never_captured_are_refused(llama: str, teacher_folder: str) -> None:
    student, teacher = load(llama, device="cpu"), load(teacher_folder, device="cpu")
    rows, taught = encode_rows(EXAMPLES, student, LIMIT), stored(teacher, "topk", k=4)
    taught.pop(row_name(TALK))
    with pytest.raises(UsageError, match="no outputs for 1 of the 6 rows"):
        with_teacher_outputs(rows, taught)


def test_rows_shorter_than_what_was_stored_are_refused(llama: str, teacher_folder: str) -> None:
    """Also where it is unknown what ids were read."""
    student, teacher = load(llama, device="cpu"), load(teacher_folder, device="cpu")
    blind = {
        name: replace(one, digest=None)
        for name, one in stored(teacher, "topk", k=4, limit=64).items()
    }
    with pytest.raises(UsageError, match="other tokens now"):
        with_teacher_outputs(encode_rows(EXAMPLES, student, LIMIT), blind)


def trained(
    llama: str, folder: Path, taught: Mapping[str, TeacherOutputs] | None, **changes: object
) -> dict[str, object]:
    config = TrainConfig(
        loss="kd", learning_rate=1e-3, max_length=LIMIT, use_peft=False, max_steps=3
    ).changed({"teacher": "cached", **changes})
    folder.mkdir()
    return train(EXAMPLES, llama, config, seed=0, folder=folder, teacher_outputs=taught)


def test_the_manifest_tells_what_was_stored_and_charges_no_teacher(
    llama: str, teacher_folder: str, tmp_path: Path
) -> None:
    taught = stored(load(teacher_folder, device="cpu"), "topk", k=16)
    facts = trained(llama, tmp_path / "a", taught)
    plain = trained(llama, tmp_path / "b", None, loss="lm")
    assert facts["stored_teacher"] == "topk" and "captured_mass" not in plain
    assert facts["flops"] == plain["flops"]
    rests = np.concatenate([one.arrays["rest"] for one in taught.values()])
    assert facts["captured_mass"] == pytest.approx(1 - rests.mean())


def test_without_the_store_a_cached_teacher_is_refused(llama: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing was stored"):
        trained(llama, tmp_path / "a", None)


@pytest.mark.parametrize("loss", [
    "kd(temperature=2)", "mix(lm=0.5, kd=0.5, temperature=2)", "product",
    "mix(kd=0.5, divergence=skew, temperature=3)",
])  # fmt: skip
def test_what_needs_the_whole_distribution_is_refused_by_name(loss: str) -> None:
    for kind in ("topk", "sampled"):
        with pytest.raises(UsageError, match="stored teacher") as refused:
            check_stored(make_loss(loss), loss, kind)
        assert "train.teacher=online" in str(refused.value.hint)
    check_stored(make_loss(loss), loss, "dense")


@pytest.mark.parametrize("loss", [
    "kd", "soft_ce", "kd(divergence=reverse)", "kd(gate=true)", "kd(correct=0.2)", "lm",
    "mix(lm=0.5, kd=0.5, base=0.1, kd_schedule=until_surpass)",
])  # fmt: skip
def test_what_top_k_serves_is_let_through(loss: str) -> None:
    check_stored(make_loss(loss), loss, "topk")


@pytest.mark.parametrize("loss", [
    "kd(divergence=reverse)", "kd(gate=true)", "mix(kd=0.5, kd_schedule=until_surpass)",
])  # fmt: skip
def test_what_draws_do_not_serve_is_refused(loss: str) -> None:
    with pytest.raises(UsageError, match="sampled"):
        check_stored(make_loss(loss), loss, "sampled")
    check_stored(make_loss("kd"), "kd", "sampled")


def test_only_top_k_knows_the_mass_it_holds() -> None:
    assert captured_mass([TeacherOutputs("dense", {"logits": np.zeros((2, 3))})]) is None
    rows = [
        TeacherOutputs("topk", {"rest": np.array(rest, dtype=np.float16)})
        for rest in ([0.5], [0.0, 0.25])
    ]
    assert captured_mass(rows) == 0.75
