"""When the student counts as better than its teacher."""

import math
from pathlib import Path

import pytest
import torch

from pilotfish.config import TrainConfig
from pilotfish.losses import Dense, LossInputs, Sampled, TopK
from pilotfish.models import load
from pilotfish.training.teacher.comparison import PATIENCE, TeacherComparison, teacher_nll
from pilotfish.training.trainer import train
from tests.training.words import backwards

TARGETS = torch.tensor([0, 2])


def dense(*rows: list[float]) -> LossInputs:
    return LossInputs(TARGETS, Dense(torch.tensor(rows).log()))


def test_what_the_teacher_pays_by_hand() -> None:
    given = dense([0.5, 0.25, 0.25], [0.2, 0.2, 0.6])
    expected = torch.tensor([math.log(2), -math.log(0.6)])
    torch.testing.assert_close(teacher_nll(given), expected)
    stored = TopK(
        torch.tensor([[0, 1], [0, 1]]),
        torch.tensor([[0.5, 0.25], [0.2, 0.2]]).log(),
        torch.tensor([0.25, 0.6]),
    )
    torch.testing.assert_close(teacher_nll(LossInputs(TARGETS, stored)), expected)


def test_padding_columns_of_the_teacher_hold_nothing() -> None:
    given = dense([0.5, 0.25, 0.25, 9.0], [0.2, 0.2, 0.6, 9.0])
    cut = LossInputs(given.targets, given.teacher, vocabulary=3)
    assert teacher_nll(cut)[0].item() == pytest.approx(math.log(2))


def test_draws_cannot_race() -> None:
    drawn = Sampled(torch.tensor([[0], [1]]), torch.ones(2, 1))
    with pytest.raises(ValueError, match="until_surpass"):
        teacher_nll(LossInputs(TARGETS, drawn))


def run(comparison: TeacherComparison, *, better: bool, steps: int) -> None:
    teacher = dense([0.4, 0.3, 0.3], [0.3, 0.3, 0.4])
    student = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]]).log()
    for _ in range(steps):
        comparison.add(student if better else torch.zeros(2, 3), teacher)
        comparison.after_step()


def test_it_is_won_once_and_for_good() -> None:
    comparison = TeacherComparison()
    run(comparison, better=True, steps=PATIENCE - 1)
    assert not comparison.surpassed
    run(comparison, better=True, steps=1)
    assert comparison.surpassed and comparison.surpassed_at == PATIENCE
    run(comparison, better=False, steps=30)
    assert comparison.surpassed_at == PATIENCE


def test_a_late_lead_outweighs_an_early_lag() -> None:
    comparison = TeacherComparison()
    run(comparison, better=False, steps=PATIENCE + 5)
    assert not comparison.surpassed
    run(comparison, better=True, steps=20)
    assert PATIENCE + 5 < comparison.surpassed_at < PATIENCE + 25


def test_its_state_goes_on() -> None:
    whole, first, second = TeacherComparison(), TeacherComparison(), TeacherComparison()
    for comparison, steps in ((whole, 14), (first, 9)):
        run(comparison, better=True, steps=steps)
    second.load_state(first.state())
    run(second, better=True, steps=5)
    assert second.surpassed_at == whole.surpassed_at
    assert torch.equal(second.state()["race_means"], whole.state()["race_means"])


def test_distillation_ends_where_the_student_passes_its_teacher(
    llama: str, teacher_folder: str, tmp_path: Path
) -> None:
    """A random teacher is passed soon; from then on the loss is that of lm alone."""
    teacher = load(teacher_folder, device="cpu", precision="fp32")
    loss = "mix(lm=0.5, kd=0.5, kd_schedule=until_surpass)"
    config = TrainConfig(
        per_device_train_batch_size=8, max_steps=25, learning_rate=5e-3, loss=loss,
        gradient_accumulation_steps=2,
    )  # fmt: skip
    facts = train(backwards(32), llama, config, seed=0, folder=tmp_path, teacher=teacher)
    assert PATIENCE <= facts["surpassed_at"] < 25
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [i + 1 for i, line in enumerate(lines) if "surpassed" in line] == [facts["surpassed_at"]]
