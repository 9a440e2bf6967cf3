"""The laws every loss of the table obeys, with every teacher it can learn from."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from pilotfish.errors import UsageError
from pilotfish.losses import (
    LOSSES,
    Dense,
    LossInputs,
    Sampled,
    TopK,
    build_loss,
    lm,
    make_loss,
    summed,
)
from tests.losses.cases import CASES, FORMS, KNOBS, Case, K, M, V, draw, teacher_of

laws = pytest.mark.parametrize("case", CASES, ids=str)


def test_every_loss_is_under_the_laws() -> None:
    assert {case.name for case in CASES} == set(LOSSES) and set(KNOBS) <= set(LOSSES)


def test_losses_learn_from_the_teachers_they_say() -> None:
    forms = {
        "lm": {"none"},
        "dft": {"none"},
        "logconf_tokens": {"none"},
        "soft_ce": {"dense", "topk", "sampled"},
        "kd": {"dense", "topk", "sampled"},
        "mix": {"dense", "topk", "sampled"},
        "logconf": {"dense"},
        "product": {"dense"},
    }
    assert forms == {
        name: {case.form for case in CASES if case.name == name and not case.knobs}
        for name in forms
    }


def holds_something_fixed(case: Case) -> bool:
    """Own beliefs held fixed are no part of the derivative: test_values has it by hand."""
    return case.name == "dft" or (case.name == "product" and case.knobs.get("beta") != 0)


@pytest.mark.parametrize("case", [c for c in CASES if not holds_something_fixed(c)], ids=str)
def test_gradients_agree_with_finite_differences(case: Case) -> None:
    logits, given = draw(case.form)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: case.loss(z, given), (logits,))


@laws
def test_no_gradient_reaches_teacher_or_base(case: Case) -> None:
    logits, given = draw(case.form)
    logits.requires_grad_()
    fixed = [one for one in (given.base, getattr(given.teacher, "logits", None)) if one is not None]
    fixed += [given.teacher.logs] if isinstance(given.teacher, TopK) else []
    for one in fixed:
        one.requires_grad_()
    case.loss(logits, given).sum().backward()
    assert all(one.grad is None for one in fixed)
    assert logits.grad is not None and logits.grad.abs().sum() > 0


@laws
def test_every_row_is_at_least_zero_and_rows_do_not_meet(case: Case) -> None:
    logits, given = draw(case.form)
    together = case.loss(logits, given)
    alone = [case.loss(logits[i : i + 1], given[i : i + 1]) for i in range(M)]
    assert together.shape == (M,)
    assert (together >= -1e-12).all()
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-12, atol=1e-12)


@laws
def test_shifted_logits_change_nothing(case: Case) -> None:
    logits, given = draw(case.form)
    shifts = torch.arange(M, dtype=logits.dtype)[:, None] * 10
    moved = replace(given, base=given.base + shifts if given.base is not None else None)
    if isinstance(given.teacher, Dense):
        moved = replace(moved, teacher=Dense(given.teacher.logits - 2 * shifts))
    torch.testing.assert_close(
        case.loss(logits + shifts, moved), case.loss(logits, given), rtol=1e-9, atol=1e-9
    )


@laws
def test_renaming_the_tokens_changes_nothing(case: Case) -> None:
    logits, given = draw(case.form)
    renamed = torch.tensor([3, 0, 6, 1, 5, 2, 4])  # column j of the new head is token renamed[j]
    back = torch.argsort(renamed)
    assert given.targets is not None and given.base is not None and given.bias is not None
    moved = replace(
        given, targets=back[given.targets], base=given.base[:, renamed], bias=given.bias[renamed]
    )
    teacher = given.teacher
    if isinstance(teacher, Dense):
        moved = replace(moved, teacher=Dense(teacher.logits[:, renamed]))
    elif teacher is not None:
        moved = replace(moved, teacher=replace(teacher, ids=back[teacher.ids]))
    torch.testing.assert_close(case.loss(logits[:, renamed], moved), case.loss(logits, given))


def padded(teacher: Any, pad: Tensor) -> Any:
    """The same teacher with tokens that no tokenizer has."""
    if isinstance(teacher, Dense):
        return Dense(torch.cat([teacher.logits, pad], -1))
    if teacher is None:
        return None
    ids = torch.cat([torch.tensor([V, V + 3]).expand(M, 2), teacher.ids], -1)
    half = torch.full((M, 2), 0.25, dtype=pad.dtype)
    if isinstance(teacher, Sampled):
        return Sampled(ids, torch.cat([half, teacher.weights / 2], -1))
    return TopK(ids, torch.cat([half.log(), teacher.logs - math.log(2)], -1), teacher.rest / 2)


@laws
def test_padding_of_either_head_changes_nothing(case: Case) -> None:
    logits, given = draw(case.form)
    pad = torch.full((M, 4), 50.0, dtype=logits.dtype)
    assert given.base is not None and given.bias is not None
    wide = replace(given, vocabulary=V, bias=torch.cat([given.bias, pad[0]]))
    wide = replace(
        wide, base=torch.cat([given.base, pad], -1), teacher=padded(given.teacher, pad[:, :2])
    )
    if case.name in ("lm", "dft", "logconf_tokens") or (
        case.name == "mix" and case.knobs.get("lm", 1)
    ):
        pad = pad - 1e9  # the plain loss reads the whole head, as transformers' own does
    got = case.loss(torch.cat([logits, pad], -1), wide)
    torch.testing.assert_close(got, case.loss(logits, replace(given, vocabulary=V)))


@laws
@pytest.mark.parametrize("block", [1, 3, 10, 11, 1000])
def test_blocks_change_neither_the_sum_nor_its_gradient(case: Case, block: int) -> None:
    _, given = draw(case.form)
    maker = torch.Generator().manual_seed(4)
    head = torch.randn(V, 5, generator=maker, dtype=torch.float64, requires_grad=True)
    hidden = torch.randn(M, 5, generator=maker, dtype=torch.float64, requires_grad=True)

    def term(rows: Tensor, some: LossInputs) -> Tensor:
        return case.loss(rows @ head.T, some)

    whole = torch.autograd.grad(term(hidden, given).sum(), (head, hidden))
    total = summed(term, hidden, given, block=block)
    torch.testing.assert_close(total, term(hidden, given).sum())
    torch.testing.assert_close(torch.autograd.grad(total, (head, hidden)), whole)


@laws
def test_two_halves_add_up_to_the_whole(case: Case) -> None:
    logits, given = draw(case.form)
    parts = sum(case.loss(logits[h], given[h]).sum() for h in (slice(0, 4), slice(4, M)))
    torch.testing.assert_close(parts, case.loss(logits, given).sum())


@laws
def test_no_supervised_token_is_zero_with_finite_gradients(case: Case) -> None:
    _, given = draw(case.form)
    hidden = torch.zeros(0, V, requires_grad=True)
    total = summed(case.loss, hidden * 2, given[0:0], block=4)
    total.backward()
    assert total.item() == 0
    assert hidden.grad is not None and torch.isfinite(hidden.grad).all()


@laws
def test_bf16_logits_are_read_in_fp32(case: Case) -> None:
    logits, given = draw(case.form, torch.float32)
    exact, rough = case.loss(logits, given), case.loss(logits.bfloat16(), given)
    # What is lost is only the rounding of the logits themselves.
    assert torch.equal(rough, case.loss(logits.bfloat16().float(), given))
    assert abs(rough.mean() - exact.mean()) <= 1e-2 * exact.mean()


@laws
def test_huge_logits_stay_finite(case: Case) -> None:
    logits, given = draw(case.form, torch.float32)
    logits = (logits * 1e4).requires_grad_()
    if isinstance(given.teacher, Dense):
        given = replace(given, teacher=Dense(given.teacher.logits * 1e4))
    value = case.loss(logits, given)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


@laws
def test_an_outcome_that_both_rule_out_makes_no_nan(case: Case) -> None:
    logits, given = draw(case.form, torch.float32)
    assert given.targets is not None and given.base is not None
    given = replace(given, targets=given.targets.clamp(max=V - 2), base=given.base.clone())
    taught = torch.randn(M, V, generator=torch.Generator().manual_seed(5))
    for one in (logits, given.base, taught):
        assert one is not None
        one[:, V - 1] = float("-inf")
    given = replace(given, teacher=teacher_of(case.form, taught))
    logits.requires_grad_()
    if case.knobs.get("smoothing"):
        return  # a share of every outcome, also of one ruled out, is infinite by right
    value = case.loss(logits, given)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


@laws
def test_a_teacher_that_rules_outcomes_out_makes_no_nan(case: Case) -> None:
    logits, given = draw(case.form, torch.float32)
    taught = torch.full((M, V), float("-inf")).index_fill(1, torch.tensor([2]), 0.0)
    given = replace(given, teacher=teacher_of(case.form, taught))
    logits.requires_grad_()
    value = case.loss(logits, given)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


@laws
def test_the_words_tell_whether_a_teacher_is_followed(case: Case) -> None:
    assert ("teacher" in case.loss.describe()) == ("teacher" in case.loss.needs)


@laws
def test_a_missing_teacher_is_said(case: Case) -> None:
    logits, given = draw(case.form)
    if "teacher" in case.loss.needs and case.knobs.get("kd_schedule") != "linear_off":
        with pytest.raises(ValueError, match="teacher"):
            case.loss(logits, replace(given, teacher=None))


NEUTRAL = [
    ("lm(smoothing=0)", "lm", "none"),
    ("mix(lm=1, kd=0)", "lm", "none"),
    ("mix(lm=0, kd=1)", "kd", "dense"),
    ("logconf(alpha=0)", "soft_ce", "dense"),
    ("logconf_tokens(alpha=0)", "lm", "none"),
    ("logconf_tokens(above=1)", "lm", "none"),
    ("product(alpha=1, beta=0)", "soft_ce", "dense"),
    ("kd(divergence=skew, skew=0)", "kd", "topk"),
    ("kd(divergence=jsd, beta=0)", "kd", "dense"),
    ("kd(divergence=jsd, beta=1)", "kd(divergence=reverse)", "dense"),
    ("kd(divergence=skew_reverse, skew=0)", "kd(divergence=reverse)", "topk"),
    ("kd(temperature=1, t2_scale=false)", "kd", "dense"),
]


@pytest.mark.parametrize(("knobs", "plain", "form"), NEUTRAL)
def test_at_its_neutral_setting_a_loss_is_the_plain_one(knobs: str, plain: str, form: str) -> None:
    logits, given = draw(form)
    got, wanted = make_loss(knobs)(logits, given), make_loss(plain)(logits, given)
    torch.testing.assert_close(got, wanted, rtol=1e-14, atol=1e-14)


def test_mix_without_a_teacher_is_lm_to_the_last_bit() -> None:
    logits, given = draw("none", torch.float32)
    assert given.targets is not None
    plain = lm(logits, given.targets)
    assert torch.equal(build_loss("mix", {"lm": 1, "kd": 0})(logits, given), plain)


@pytest.mark.parametrize("form", FORMS[1:])
def test_slices_of_what_is_given_keep_rows_together(form: str) -> None:
    _, given = draw(form)
    part = given[2:5]
    assert part.targets is not None and given.targets is not None
    assert torch.equal(part.targets, given.targets[2:5])
    assert part.bias is given.bias  # one for all rows
    for whole, piece in zip(vars(given.teacher).values(), vars(part.teacher).values(), strict=True):
        assert torch.equal(whole[2:5], piece)


def test_a_stored_teacher_is_refused_what_it_cannot_tell() -> None:
    logits, given = draw("topk")
    sampled = replace(
        given, teacher=Sampled(torch.zeros(M, K, dtype=torch.int64), torch.ones(M, K) / K)
    )
    for knobs, some in [
        ({"temperature": 2.0}, given),
        ({"correct": 0.2}, sampled),
        ({"gate": True}, sampled),
        ({"divergence": "reverse"}, sampled),
        ({"temperature": 2.0}, sampled),
    ]:
        with pytest.raises(UsageError):
            build_loss("kd", knobs)(logits, some)
