"""The laws every loss of the table obeys."""

import pytest
import torch
from torch import Tensor

from pilotfish.losses import LOSSES, Dense, Given, Loss, build_loss, lm, summed

CASES = [
    ("lm", {}),
    ("kd", {}),
    ("kd", {"temperature": 2.5}),
    ("mix", {}),
    ("mix", {"lm": 1, "kd": 0}),
    ("mix", {"lm": 0, "kd": 2.0, "temperature": 0.5}),
]
M, V = 11, 7
laws = pytest.mark.parametrize(("name", "knobs"), CASES, ids=lambda x: str(x).replace(" ", ""))


def draw(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """(logits [M, V], targets [M], teacher [M, V])."""
    maker = torch.Generator().manual_seed(3)
    logits = torch.randn(M, V, generator=maker, dtype=torch.float64) * 3
    teacher = torch.randn(M, V, generator=maker, dtype=torch.float64) * 3
    return logits.to(dtype), torch.randint(V, (M,), generator=maker), teacher.to(dtype)


class Plainly:
    """A loss called with plain tensors."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def __call__(self, logits: Tensor, targets: Tensor, teacher: Tensor | None = None) -> Tensor:
        taught = None if teacher is None else Dense(teacher)
        return self.loss(logits, Given(targets=targets, teacher=taught))


def test_every_loss_is_under_the_laws() -> None:
    assert {name for name, _ in CASES} == set(LOSSES)


@laws
def test_gradients_agree_with_finite_differences(name: str, knobs: dict[str, float]) -> None:
    loss, (logits, targets, teacher) = Plainly(build_loss(name, knobs)), draw()
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, targets, teacher), (logits,))


@laws
def test_no_gradient_reaches_the_teacher(name: str, knobs: dict[str, float]) -> None:
    logits, targets, teacher = draw()
    logits.requires_grad_()
    teacher.requires_grad_()
    Plainly(build_loss(name, knobs))(logits, targets, teacher).sum().backward()
    assert teacher.grad is None
    assert logits.grad is not None and logits.grad.abs().sum() > 0


@laws
def test_every_row_is_at_least_zero_and_rows_do_not_meet(
    name: str, knobs: dict[str, float]
) -> None:
    loss, (logits, targets, teacher) = Plainly(build_loss(name, knobs)), draw()
    together = loss(logits, targets, teacher)
    one_by_one = [loss(logits[i : i + 1], targets[i : i + 1], teacher[i : i + 1]) for i in range(M)]
    assert together.shape == (M,)
    assert (together >= 0).all()
    torch.testing.assert_close(together, torch.cat(one_by_one), rtol=1e-12, atol=1e-12)


@laws
def test_shifted_logits_change_nothing(name: str, knobs: dict[str, float]) -> None:
    loss, (logits, targets, teacher) = Plainly(build_loss(name, knobs)), draw()
    shifts = torch.arange(M, dtype=logits.dtype)[:, None] * 10
    moved = loss(logits + shifts, targets, teacher - 2 * shifts)
    torch.testing.assert_close(moved, loss(logits, targets, teacher), rtol=1e-10, atol=1e-10)


@laws
def test_renaming_the_tokens_changes_nothing(name: str, knobs: dict[str, float]) -> None:
    loss, (logits, targets, teacher) = Plainly(build_loss(name, knobs)), draw()
    renamed = torch.tensor([3, 0, 6, 1, 5, 2, 4])  # column j of the new head is token renamed[j]
    back = torch.argsort(renamed)
    moved = loss(logits[:, renamed], back[targets], teacher[:, renamed])
    torch.testing.assert_close(moved, loss(logits, targets, teacher))


@laws
@pytest.mark.parametrize("block", [1, 3, 10, 11, 1000])
def test_blocks_change_neither_the_sum_nor_its_gradient(
    name: str, knobs: dict[str, float], block: int
) -> None:
    loss, (_, targets, teacher) = Plainly(build_loss(name, knobs)), draw()
    maker = torch.Generator().manual_seed(4)
    head = torch.randn(V, 5, generator=maker, dtype=torch.float64, requires_grad=True)
    hidden = torch.randn(M, 5, generator=maker, dtype=torch.float64, requires_grad=True)

    def term(rows: Tensor, wanted: Tensor, taught: Tensor) -> Tensor:
        return loss(rows @ head.T, wanted, taught)

    whole = torch.autograd.grad(term(hidden, targets, teacher).sum(), (head, hidden))
    total = summed(term, hidden, targets, teacher, block=block)
    torch.testing.assert_close(total, term(hidden, targets, teacher).sum())
    torch.testing.assert_close(torch.autograd.grad(total, (head, hidden)), whole)


@laws
def test_two_halves_add_up_to_the_whole(name: str, knobs: dict[str, float]) -> None:
    loss, (logits, targets, teacher) = Plainly(build_loss(name, knobs)), draw()
    halves = [slice(0, 4), slice(4, M)]
    parts = sum(loss(logits[h], targets[h], teacher[h]).sum() for h in halves)
    torch.testing.assert_close(parts, loss(logits, targets, teacher).sum())


@laws
def test_no_supervised_token_is_zero_with_finite_gradients(
    name: str, knobs: dict[str, float]
) -> None:
    hidden = torch.zeros(0, V, requires_grad=True)
    loss = Plainly(build_loss(name, knobs))
    none = torch.zeros(0, dtype=torch.int64)
    total = summed(loss, hidden * 2, none, torch.zeros(0, V), block=4)
    total.backward()
    assert total.item() == 0
    assert hidden.grad is not None and torch.isfinite(hidden.grad).all()


@laws
def test_bf16_logits_are_read_in_fp32(name: str, knobs: dict[str, float]) -> None:
    loss, (logits, targets, teacher) = Plainly(build_loss(name, knobs)), draw(torch.float32)
    exact = loss(logits, targets, teacher)
    rough = loss(logits.bfloat16(), targets, teacher.bfloat16())
    assert rough.dtype == torch.float32
    # What is lost is only the rounding of the logits themselves.
    again = loss(logits.bfloat16().float(), targets, teacher.bfloat16().float())
    assert torch.equal(rough, again)
    assert abs(rough.mean() - exact.mean()) <= 1e-2 * exact.mean()


@laws
def test_huge_logits_stay_finite(name: str, knobs: dict[str, float]) -> None:
    loss, (logits, targets, teacher) = Plainly(build_loss(name, knobs)), draw(torch.float32)
    logits = (logits * 1e4).requires_grad_()
    value = loss(logits, targets, teacher * 1e4)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_mix_without_a_teacher_is_lm_to_the_last_bit() -> None:
    logits, targets, _ = draw(torch.float32)
    assert torch.equal(
        Plainly(build_loss("mix", {"lm": 1, "kd": 0}))(logits, targets), lm(logits, targets)
    )


@laws
def test_the_words_say_what_is_learnt(name: str, knobs: dict[str, float]) -> None:
    loss: Loss = build_loss(name, knobs)
    assert ("KL(teacher || student)" in loss.describe()) == ("teacher" in loss.needs)
