"""Values and gradients worked out by hand, and the bounds that divergences are known to keep."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from pilotfish.errors import UsageError
from pilotfish.losses import Dense, Given, Sampled, TopK, Window, fit_bias, make_loss
from pilotfish.losses.corrected import corrected
from pilotfish.losses.divergences import (
    FLOOR,
    forward_kl,
    jsd,
    reverse_kl,
    skew_kl,
    skew_reverse_kl,
    total_variation,
)
from pilotfish.losses.logconf import hardened, ramp
from pilotfish.losses.pairs import log1mexp
from tests.losses.cases import V, draw, teacher_of

Q, P = [0.5, 0.25, 0.25], [0.25, 0.25, 0.5]


def logs(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).log().clamp(min=FLOOR)


def value(text: str, p: list[float], given: Given) -> float:
    return float(make_loss(text)(logs(p), given))


@pytest.mark.parametrize(
    ("text", "by_hand"),
    [
        ("kd", 0.5 * math.log(2) - 0.25 * math.log(2)),
        ("kd(divergence=reverse)", 0.5 * math.log(2) - 0.25 * math.log(2)),
        ("kd(divergence=tv)", 0.25),
        ("soft_ce", 0.5 * math.log(4) + 0.25 * math.log(4) + 0.25 * math.log(2)),
        # m = [.375, .25, .375]: half of each KL
        ("kd(divergence=jsd)", 0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3)),
        ("kd(divergence=jsd, normalize=true)", 2 * math.log(4 / 3) + math.log(2 / 3)),
        # .1 q + .9 p = [.275, .25, .475]
        ("kd(divergence=skew)", 0.5 * math.log(0.5 / 0.275) + 0.25 * math.log(0.25 / 0.475)),
        ("kd(divergence=skew_reverse)",
         0.25 * math.log(0.25 / 0.475) + 0.5 * math.log(0.5 / 0.275)),
        # p q = [.125, .0625, .125], normalised [.4, .2, .4]
        ("product", 0.4 * math.log(4) + 0.2 * math.log(4) + 0.4 * math.log(2)),
        ("lm", math.log(4)),
        ("lm(smoothing=0.3)", 0.7 * math.log(4) + 0.1 * (2 * math.log(4) + math.log(2))),
        ("dft", 0.25 * math.log(4)),
        # the student's own choice is class 2; half of the target goes there once the ramp is over
        ("logconf(warmup=0, prior=none)",
         0.5 * math.log(2) + 0.5 * (0.75 * math.log(4) + 0.25 * math.log(2))),
        ("logconf_tokens(warmup=0, above=0.4)", 0.5 * math.log(4) + 0.5 * math.log(2)),
        ("logconf_tokens(warmup=0, above=0.6)", math.log(4)),
        ("mix(lm=2, kd=4)", 2 * math.log(4) + math.log(2)),
    ],
)  # fmt: skip
def test_a_row_worked_out_by_hand(text: str, by_hand: float) -> None:
    given = Given(torch.tensor([0]), Dense(logs(Q)))
    assert value(text, P, given) == pytest.approx(by_hand, abs=1e-12)


def test_top_k_with_its_rest_worked_out_by_hand() -> None:
    # likeliest token of the teacher: 0 with .5; the rest .5 against the student's .75
    given = Given(teacher=TopK(torch.tensor([[0]]), logs([0.5]), torch.tensor([0.5])))
    assert value("kd", P, given) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75))
    assert value("soft_ce", P, given) == pytest.approx(0.5 * math.log(4) - 0.5 * math.log(0.75))


def test_draws_worked_out_by_hand() -> None:
    draws = Sampled(torch.tensor([[0, 2, 0, 0]]), torch.tensor([[0.25, 0.5, 0.25, 0.0]]))
    assert value("kd", P, Given(teacher=draws)) == pytest.approx(
        0.5 * math.log(4) + 0.5 * math.log(2)
    )


def test_staying_near_the_base_worked_out_by_hand() -> None:
    given = Given(torch.tensor([0]), base=logs(Q))
    assert value("mix(lm=0, kd=0, base=3)", P, given) == pytest.approx(3 * 0.25 * math.log(2))


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


def test_the_gate_opens_where_the_teacher_knows_better() -> None:
    given = Given(torch.tensor([0, 2]), Dense(logs(Q, Q)))
    open_, shut = make_loss("kd(gate=true)")(logs(P, P), given)
    assert open_ == pytest.approx(0.25 * math.log(2)) and shut == 0


def test_gradients_that_hold_beliefs_fixed() -> None:
    logits, given = draw("dense")
    logits.requires_grad_()
    p = torch.softmax(logits, -1).detach()
    assert given.targets is not None and isinstance(given.teacher, Dense)
    at = torch.nn.functional.one_hot(given.targets, V)
    [dft] = torch.autograd.grad(make_loss("dft")(logits, given).sum(), logits)
    torch.testing.assert_close(dft, p.gather(-1, given.targets[:, None]) * (p - at))
    target = torch.softmax(given.teacher.logits + logits.detach(), -1)
    [product] = torch.autograd.grad(make_loss("product")(logits, given).sum(), logits)
    torch.testing.assert_close(product, p - target)


def test_soft_targets_pull_by_p_minus_q_and_forward_kl_alike() -> None:
    logits, given = draw("dense")
    logits.requires_grad_()
    assert isinstance(given.teacher, Dense)
    q = torch.softmax(given.teacher.logits, -1)
    for text in ("soft_ce", "kd"):
        [got] = torch.autograd.grad(make_loss(text)(logits, given).sum(), logits)
        torch.testing.assert_close(got, torch.softmax(logits.detach(), -1) - q, atol=1e-12, rtol=0)
    gap = make_loss("soft_ce")(logits, given) - make_loss("kd")(logits, given)
    torch.testing.assert_close(gap, -(q * q.log()).sum(-1))


def test_divergences_keep_their_bounds() -> None:
    maker = torch.Generator().manual_seed(0)
    q, p = (torch.log_softmax(torch.randn(200, 6, generator=maker).double() * 6, -1) for _ in "qp")
    for beta in (0.01, 0.3, 0.5, 0.9):
        entropy = -(beta * math.log(beta) + (1 - beta) * math.log1p(-beta))
        found = jsd(q, p, beta=beta)
        assert (found >= 0).all() and (found <= entropy + 1e-12).all()
        torch.testing.assert_close(found, jsd(p, q, beta=1 - beta))
    assert (total_variation(q, p) <= 1).all()
    for skewed in (skew_kl, skew_reverse_kl):
        assert (skewed(q, p, skew=0.1) <= -math.log(0.1)).all()
    apart = logs([1.0, 0.0]), logs([0.0, 1.0])
    assert float(skew_kl(*apart, skew=0.1)) == pytest.approx(-math.log(0.1))
    assert float(jsd(*apart)) == pytest.approx(math.log(2))
    assert float(total_variation(*apart)) == 1.0


@pytest.mark.parametrize("text", ["forward", "reverse", "jsd", "skew", "skew_reverse", "tv"])
@pytest.mark.parametrize("form", ["dense", "topk"])
def test_a_student_like_its_teacher_has_nothing_to_learn(text: str, form: str) -> None:
    logits, given = draw("dense")
    given = replace(given, teacher=teacher_of(form, logits.detach()))
    logits.requires_grad_()
    loss = make_loss(f"kd(divergence={text})")(logits, given)
    [pull] = torch.autograd.grad(loss.sum(), logits)
    assert loss.abs().max() < 1e-6
    assert text == "tv" or pull.abs().max() < 1e-6  # tv has a kink there


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


def test_as_the_temperature_grows_logits_are_matched() -> None:
    logits, given = draw("dense")
    assert isinstance(given.teacher, Dense)
    apart = given.teacher.logits - logits
    by_hand = (apart - apart.mean(-1, keepdim=True)).square().sum(-1) / (2 * V)
    torch.testing.assert_close(
        make_loss("kd(temperature=1000)")(logits, given), by_hand, rtol=1e-2, atol=0
    )
    plain = make_loss("kd(temperature=1000, t2_scale=false)")(logits, given)
    torch.testing.assert_close(plain * 1000**2, by_hand, rtol=1e-2, atol=0)


def test_the_ramp_has_no_jump() -> None:
    steps = 1000
    shares = [ramp(s / steps, alpha=0.5, warmup=0.1) for s in range(steps + 1)]
    largest = max(b - a for a, b in pairwise(shares))
    assert shares[0] == 0 and shares[-1] == 0.5
    assert largest <= 0.5 / (0.1 * steps) + 1e-12
    assert ramp(0.0, alpha=0.5, warmup=0) == 0.5


@pytest.mark.parametrize("share", [0.1, 0.5, 0.83])
def test_two_hardened_classes_are_as_frequent_as_the_teacher_says(share: float) -> None:
    logits = torch.randn(100, 2, generator=torch.Generator().manual_seed(2))
    log_p = torch.log_softmax(logits, -1)
    bias = fit_bias(log_p, torch.tensor([share, 1 - share]))
    assert abs(float(hardened(log_p, bias)[:, 0].mean()) - share) <= 1 / 100


def test_five_hardened_classes_are_about_as_frequent_as_the_teacher_says() -> None:
    log_p = torch.log_softmax(torch.randn(400, 5, generator=torch.Generator().manual_seed(2)), -1)
    share = torch.tensor([0.4, 0.3, 0.2, 0.1, 0.0])
    got = hardened(log_p, fit_bias(log_p, share)).mean(0)
    assert (got - share).abs().max() <= 0.02


def test_a_certain_student_that_sides_with_itself_loses_nothing() -> None:
    logits = torch.tensor([[30.0, 0.0], [0.0, 30.0]])
    given = Given(teacher=Dense(torch.zeros(2, 2)), progress=1.0)
    assert make_loss("logconf(alpha=1, warmup=0)")(logits, given).max() < 1e-9


def test_no_gradient_goes_through_the_hardened_choice() -> None:
    logits, given = draw("dense")
    logits.requires_grad_()
    loss = make_loss("logconf(alpha=1, warmup=0, prior=none)")(logits, given)
    [pull] = torch.autograd.grad(loss.sum(), logits)
    own = hardened(torch.log_softmax(logits.detach(), -1), None)
    torch.testing.assert_close(pull, torch.softmax(logits.detach(), -1) - own)


def test_uniform_beliefs_cost_the_logarithm_of_the_classes() -> None:
    given = Given(torch.tensor([0]), Dense(torch.zeros(1, 5)))
    for text, cost in [("lm", math.log(5)), ("soft_ce", math.log(5)), ("kd", 0.0)]:
        assert float(make_loss(text)(torch.zeros(1, 5), given)) == pytest.approx(cost, abs=1e-6)


def test_schedules_switch_terms_off() -> None:
    logits, given = draw("dense")
    fading = make_loss("mix(lm=1, kd=1, kd_schedule=linear_off)")
    lm, kd = make_loss("lm")(logits, given), make_loss("kd")(logits, given)
    torch.testing.assert_close(fading(logits, given), lm + 0.75 * kd)
    until = make_loss("mix(lm=1, kd=1, kd_schedule=until_surpass)")
    assert "surpassed" in until.needs
    torch.testing.assert_close(until(logits, given), lm + kd)
    assert torch.equal(until(logits, replace(given, surpassed=True, teacher=None)), lm)
    over = make_loss("mix(lm=0, kd=1, kd_schedule=linear_off)")
    assert torch.equal(over(logits, replace(given, progress=1.0)), torch.zeros(len(logits)))


def test_the_window_keeps_the_last_rows_and_survives_a_resume() -> None:
    window = Window(2, rows=64)
    assert window.bias() is None
    drawn = torch.log_softmax(torch.randn(150, 2, generator=torch.Generator().manual_seed(3)), -1)
    for start in range(0, 150, 10):
        window.add(drawn[start : start + 10], drawn[start : start + 10].exp())
    assert len(window) == 64
    again = Window(2, rows=64)
    again.load_state(window.state())
    bias = fit_bias(drawn[-64:], drawn[-64:].exp().mean(0)).float()
    found = again.bias()
    assert found is not None
    torch.testing.assert_close(found, bias)
    with pytest.raises(ValueError, match="too short"):
        Window(2, rows=10)


def test_what_is_left_of_one_is_exact_at_both_ends() -> None:
    x = torch.tensor([-1e-10, -1e-3, -0.6931, -2.0, -50.0], dtype=torch.float64)
    by_hand = [math.log(-math.expm1(float(each))) for each in x]
    torch.testing.assert_close(log1mexp(x), torch.tensor(by_hand, dtype=torch.float64))
    assert torch.isfinite(log1mexp(torch.zeros(1)))


def test_forward_and_reverse_are_one_another_turned_round() -> None:
    assert torch.equal(forward_kl(logs(Q), logs(P)), reverse_kl(logs(P), logs(Q)))


@pytest.mark.parametrize(
    "text",
    ["kd(divergence=forwards)", "kd(beta=2)", "kd(gate=1)", "logconf(prior=some)", "dft(a=1)",
     "mix(kd_schedule=never)", "mix(lm_schedule=until_surpass)", "product(alpha=-1)",
     "lm(smoothing=1.5)"],
)  # fmt: skip
def test_knobs_that_mean_nothing_are_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError):
        make_loss(text)
