"""Losses by hand, and against definitions written out slowly."""

import math

import pytest
import torch
import torch.nn.functional as F

from pilotfish.errors import UsageError
from pilotfish.losses import Dense, LossInputs, build_loss, kd, lm, summed

HALF = torch.tensor([[math.log(0.5), math.log(0.25), math.log(0.25)]])
THIRD = torch.zeros(1, 3)


def test_lm_by_hand() -> None:
    values = lm(HALF.repeat(2, 1), torch.tensor([0, 1]))
    torch.testing.assert_close(values, torch.tensor([math.log(2), math.log(4)]))


def test_kd_by_hand() -> None:
    # q = (1/2, 1/4, 1/4), p uniform: KL(q || p) = ln 3 - H(q), H(q) = 1.5 ln 2.
    forward = kd(THIRD, HALF, vocabulary=None)
    torch.testing.assert_close(forward, torch.tensor([math.log(3) - 1.5 * math.log(2)]))


def test_kd_is_the_forward_direction() -> None:
    # q uniform, p = (1/2, 1/4, 1/4): sum of 1/3 ln((1/3) / p).
    forward = (math.log(2 / 3) + 2 * math.log(4 / 3)) / 3
    torch.testing.assert_close(kd(HALF, THIRD, vocabulary=None), torch.tensor([forward]))


def test_mix_by_hand() -> None:
    value = build_loss("mix", {"lm": 0.5, "kd": 2.0})(
        THIRD, LossInputs(torch.tensor([0]), Dense(HALF))
    )
    by_hand = 0.5 * math.log(3) + 2.0 * (math.log(3) - 1.5 * math.log(2))
    torch.testing.assert_close(value, torch.tensor([by_hand]))


def test_a_teacher_equal_to_the_student_teaches_nothing() -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 9, requires_grad=True)
    value = kd(logits, logits.detach() + 3, temperature=2.0, vocabulary=None)
    value.sum().backward()
    assert value.abs().max() < 1e-6
    assert logits.grad is not None and logits.grad.abs().max() < 1e-6


def test_a_certain_teacher_is_a_label() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 5), torch.tensor([0, 4, 2, 1, 3, 3])
    certain = torch.where(F.one_hot(targets, 5).bool(), 0.0, -torch.inf)
    torch.testing.assert_close(kd(logits, certain, vocabulary=None), lm(logits, targets))


def test_gradient_of_kd_is_student_minus_teacher() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(4, 6, dtype=torch.float64)
    kd(logits, teacher, vocabulary=None).sum().backward()
    expected = logits.detach().softmax(-1) - teacher.softmax(-1)
    torch.testing.assert_close(logits.grad, expected, rtol=1e-12, atol=1e-12)


def test_squared_temperature_keeps_the_size_of_the_gradient() -> None:
    torch.manual_seed(0)
    student = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(4, 6, dtype=torch.float64)
    hot = kd(student, teacher, temperature=1000.0, vocabulary=None)
    gap = (teacher - student).detach()
    limit = (gap - gap.mean(-1, keepdim=True)).square().sum(-1) / (2 * 6)
    torch.testing.assert_close(hot, limit, rtol=1e-2, atol=0)


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_kd_agrees_with_torch(temperature: float) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 6), torch.randn(4, 6)
    slow = F.kl_div(
        (student / temperature).log_softmax(-1),
        (teacher / temperature).log_softmax(-1),
        reduction="none",
        log_target=True,
    ).sum(-1)
    ours = kd(student, teacher, temperature=temperature, vocabulary=None)
    torch.testing.assert_close(ours, slow * temperature**2)


def test_padding_of_the_head_weighs_nothing_on_either_side() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 6), torch.randn(4, 6)
    plain = kd(student, teacher, vocabulary=None)
    wide = torch.cat([student, torch.full((4, 3), 50.0)], -1).requires_grad_()
    wider = torch.cat([teacher, torch.full((4, 8), 50.0)], -1)
    masked = kd(wide, wider, vocabulary=6)
    masked.sum().backward()
    torch.testing.assert_close(masked, plain)
    assert wide.grad is not None and (wide.grad[:, 6:] == 0).all()
    # The same by the definition: padding at -inf.
    student_inf = wide.detach().index_fill(1, torch.arange(6, 9), -torch.inf)
    teacher_inf = wider[:, :9].index_fill(1, torch.arange(6, 9), -torch.inf)
    q = teacher_inf.softmax(-1)
    slow = torch.special.xlogy(q, q / student_inf.softmax(-1).clamp_min(1e-30)).sum(-1)
    torch.testing.assert_close(masked.detach(), slow)


@pytest.mark.parametrize(
    ("vocabulary", "message"), [(None, "heads of 6 and 8 columns"), (7, "no vocabulary of 7")]
)
def test_heads_without_a_common_vocabulary_are_refused(
    vocabulary: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kd(torch.zeros(1, 6), torch.zeros(1, 8), vocabulary=vocabulary)


def test_a_weight_of_zero_never_looks_at_the_teacher() -> None:
    loss = build_loss("mix", {"lm": 1, "kd": 0})
    poison = torch.full((1, 3), torch.nan)
    assert "teacher" not in loss.needs
    assert loss(THIRD, LossInputs(torch.tensor([0]), Dense(poison))).item() == pytest.approx(
        math.log(3)
    )


@pytest.mark.parametrize("name", ["kd", "mix"])
def test_a_missing_teacher_is_an_error_not_a_zero(name: str) -> None:
    with pytest.raises(ValueError, match="teacher"):
        build_loss(name, {})(THIRD, LossInputs(torch.tensor([0])))


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("mixx", {}, "did you mean 'mix'"),
        ("lm", {"temperature": 1}, "has no temperature; it knows smoothing"),
        ("kd", {"t": 1}, "has no t; it knows temperature"),
        ("kd", {"temperature": 0}, "above 0"),
        ("kd", {"temperature": "hot"}, "above 0"),
        ("kd", {"temperature": True}, "above 0"),
        ("mix", {"lm": -1}, "at least 0"),
        ("mix", {"kd": "half"}, "at least 0"),
        ("mix", {"lm": 0, "kd": 0}, "learns nothing"),
    ],
)
def test_mistakes_meet_a_sentence(name: str, knobs: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_loss(name, knobs)


def test_a_block_holds_at_least_one_row() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        summed(lm, THIRD, torch.tensor([0]), block=0)


def test_blocks_never_hold_more_rows_than_asked() -> None:
    seen: list[int] = []

    def term(rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return rows

    rows = torch.ones(10, requires_grad=True)
    assert summed(term, rows, block=4).item() == 10
    assert max(seen) == 4
