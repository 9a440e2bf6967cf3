"""Teachers that are stored in part, corrected or gated: values by hand, and what they promise."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from pilotfish.losses import Dense, LossInputs, Sampled, TopK, make_loss
from pilotfish.losses.kd import corrected
from tests.losses.cases import P, Q, V, draw, logs, teacher_of, value


def test_top_k_with_its_rest_worked_out_by_hand() -> None:
    # likeliest token of the teacher: 0 with .5; the rest .5 against the student's .75
    given = LossInputs(teacher=TopK(torch.tensor([[0]]), logs([0.5]), torch.tensor([0.5])))
    assert value("kd", P, given) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75))
    assert value("soft_ce", P, given) == pytest.approx(0.5 * math.log(4) - 0.5 * math.log(0.75))


def test_draws_worked_out_by_hand() -> None:
    draws = Sampled(torch.tensor([[0, 2, 0, 0]]), torch.tensor([[0.25, 0.5, 0.25, 0.0]]))
    assert value("kd", P, LossInputs(teacher=draws)) == pytest.approx(
        0.5 * math.log(4) + 0.5 * math.log(2)
    )


def test_a_teacher_of_a_gold_row_gives_way_by_the_margin_and_no_more() -> None:
    q = logs([0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.3, 0.6, 0.1])
    moved = corrected(
        q, torch.tensor([1, 1, 1]), torch.tensor([True, False, True]), margin=0.2
    ).exp()
    share = (0.2 + 0.3) / 1.3
    by_hand = [(1 - share) * 0.6, (1 - share) * 0.3 + share, (1 - share) * 0.1]
    torch.testing.assert_close(moved[0], torch.tensor(by_hand, dtype=torch.float64))
    assert float(moved[0, 1] - moved[0, 0]) == pytest.approx(0.2)
    torch.testing.assert_close(moved[1:], q[1:].exp())  # not gold; or first choice already


def test_a_top_k_teacher_is_corrected_too() -> None:
    # stored: token 0 with .4, token 1 with .1; the rest holds .5 and competes with no token
    top = TopK(torch.tensor([[0, 1]]), logs([0.4, 0.1]), torch.tensor([0.5]))
    p, gold = logs([0.25, 0.25, 0.4, 0.1]), torch.tensor([True])
    for target, own in [(1, 0.1), (2, 0.0)]:
        share = (0.2 + 0.4 - own) / (1 + 0.4 - own)
        moved = [0.4, 0.1, 0.0, 0.5]  # tokens 0, 1, 2 and what is left
        moved = [(1 - share) * q for q in moved]
        moved[target] += share
        given = LossInputs(torch.tensor([target]), top, trusted=gold)
        student = [0.25, 0.25, 0.4, 0.1] if target == 2 else [0.25, 0.25, 0.0, 0.5]
        by_hand = sum(q * math.log(q / s) for q, s in zip(moved, student, strict=True) if q)
        assert float(make_loss("kd(correct=0.2)")(p, given)) == pytest.approx(by_hand)
        as_is = replace(given, trusted=~gold)
        if target == 1:
            assert make_loss("kd(correct=0.2)")(p, as_is) == make_loss("kd")(p, as_is)


def test_a_target_that_top_k_does_not_name_shuts_the_gate() -> None:
    top = TopK(torch.tensor([[0, 1]] * 3), logs(*[[0.4, 0.1]] * 3), torch.tensor([0.5] * 3))
    given = LossInputs(torch.tensor([0, 1, 2]), top)
    p = logs(*[[0.25, 0.25, 0.4, 0.1]] * 3)
    plain, gated = make_loss("kd")(p, given), make_loss("kd(gate=true)")(p, given)
    assert gated.tolist() == [pytest.approx(float(plain[0])), 0, 0]


def test_the_gate_opens_where_the_teacher_knows_better() -> None:
    given = LossInputs(torch.tensor([0, 2]), Dense(logs(Q, Q)))
    open_, shut = make_loss("kd(gate=true)")(logs(P, P), given)
    assert open_ == pytest.approx(0.25 * math.log(2)) and shut == 0


def test_the_k_likeliest_made_to_add_up_to_one_pull_even_where_there_is_nothing_to_learn() -> None:
    logits, _ = draw("dense")
    q = torch.softmax(logits, -1)
    kept, ids = q.topk(2, -1)
    renormalised = torch.zeros_like(q).scatter(-1, ids, kept / kept.sum(-1, keepdim=True))
    pull = (q - renormalised).abs().sum(-1)  # gradient of the dense loss towards it, at p = q
    torch.testing.assert_close(pull, 2 * (1 - kept.sum(-1)))
    assert pull.mean() > 0.1


@pytest.mark.parametrize("text", ["kd", "kd(divergence=reverse)", "kd(divergence=jsd)"])
def test_more_stored_tokens_come_nearer_to_the_whole_from_below(text: str) -> None:
    logits, given = draw("dense")
    assert isinstance(given.teacher, Dense)
    loss = make_loss(text)
    whole = loss(logits, given)
    found = [
        loss(logits, replace(given, teacher=teacher_of("topk", given.teacher.logits, k=k)))
        for k in range(1, V + 1)
    ]
    for fewer, more in pairwise(found):
        assert (fewer <= more + 1e-6).all()
    torch.testing.assert_close(found[-1], whole)


def test_draws_tell_the_gradient_without_bias() -> None:
    logits, given = draw("dense")
    assert isinstance(given.teacher, Dense)
    logits.requires_grad_()
    q = torch.softmax(given.teacher.logits, -1)
    ids = torch.multinomial(q, 20_000, replacement=True, generator=torch.Generator().manual_seed(1))
    draws = Sampled(ids, torch.full(ids.shape, 1 / ids.shape[1], dtype=torch.float64))
    [got] = torch.autograd.grad(
        make_loss("kd")(logits, replace(given, teacher=draws)).sum(), logits
    )
    torch.testing.assert_close(got, torch.softmax(logits, -1).detach() - q, atol=0.02, rtol=0)


@pytest.mark.parametrize("lead", [5.0, 17.0, 30.0, 80.0])
def test_a_student_sure_of_the_stored_tokens_is_still_pulled_to_the_rest(lead: float) -> None:
    # in fp32 1 - p is 0 from a lead of 17 nats on, and a loss made from it has no gradient left
    logits = torch.zeros(1, 50)
    logits[0, 0] = lead
    logits.requires_grad_()
    teacher = TopK(torch.tensor([[0, 1]]), logs([0.5, 0.3]).float(), torch.tensor([0.2]))
    loss = make_loss("kd")(logits, LossInputs(teacher=teacher))
    [pull] = torch.autograd.grad(loss.sum(), logits)
    left = 48 / (49 + math.exp(lead))
    assert float(pull[0, 2:].sum()) == pytest.approx(left - 0.2, abs=1e-5)
    by_hand = sum(
        q * math.log(q / p)
        for q, p in [(0.5, math.exp(lead) * left / 48), (0.3, left / 48), (0.2, left)]
    )
    assert loss.item() == pytest.approx(by_hand, rel=1e-5)
