"""Values and gradients worked out by hand, and the bounds that divergences are known to keep."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from pilotfish.errors import UsageError
from pilotfish.losses import Dense, LossInputs, Window, fit_bias, make_loss
from pilotfish.losses.divergences import (
    forward_kl,
    jsd,
    reverse_kl,
    skew_kl,
    skew_reverse_kl,
    total_variation,
)
from pilotfish.losses.logconf import hardened, ramp
from tests.losses.cases import P, Q, V, draw, logs, teacher_of, value


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
    given = LossInputs(torch.tensor([0]), Dense(logs(Q)))
    assert value(text, P, given) == pytest.approx(by_hand, abs=1e-12)


LOPSIDED = [0.25, 0.125, 0.625]  # forward and reverse differ from Q to here


@pytest.mark.parametrize(
    ("text", "by_hand"),
    [
        ("kd", 0.75 * math.log(2) + 0.25 * math.log(0.4)),
        ("kd(divergence=reverse)", 0.375 * math.log(0.5) + 0.625 * math.log(2.5)),
        # .1 q + .9 p = [.275, .1375, .5875]
        ("kd(divergence=skew)",
         0.5 * math.log(0.5 / 0.275) + 0.25 * math.log(0.25 / 0.1375)
         + 0.25 * math.log(0.25 / 0.5875)),
        # .1 p + .9 q = [.475, .2375, .2875]
        ("kd(divergence=skew_reverse)",
         0.25 * math.log(0.25 / 0.475) + 0.125 * math.log(0.125 / 0.2375)
         + 0.625 * math.log(0.625 / 0.2875)),
        # m = .2 q + .8 p = [.3, .15, .55]
        ("kd(divergence=jsd, beta=0.2)",
         0.2 * (0.5 * math.log(0.5 / 0.3) + 0.25 * math.log(0.25 / 0.15)
                + 0.25 * math.log(0.25 / 0.55))
         + 0.8 * (0.25 * math.log(0.25 / 0.3) + 0.125 * math.log(0.125 / 0.15)
                  + 0.625 * math.log(0.625 / 0.55))),
    ],
)  # fmt: skip
def test_directions_that_differ_worked_out_by_hand(text: str, by_hand: float) -> None:
    assert value(text, LOPSIDED, LossInputs(teacher=Dense(logs(Q)))) == pytest.approx(
        by_hand, abs=1e-12
    )


def test_staying_near_the_base_worked_out_by_hand() -> None:
    given = LossInputs(torch.tensor([0]), base=logs(Q))
    assert value("mix(lm=0, kd=0, base=3)", P, given) == pytest.approx(3 * 0.25 * math.log(2))


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
    given = LossInputs(teacher=Dense(torch.zeros(2, 2)), progress=1.0)
    assert make_loss("logconf(alpha=1, warmup=0)")(logits, given).max() < 1e-9


def test_no_gradient_goes_through_the_hardened_choice() -> None:
    logits, given = draw("dense")
    logits.requires_grad_()
    loss = make_loss("logconf(alpha=1, warmup=0, prior=none)")(logits, given)
    [pull] = torch.autograd.grad(loss.sum(), logits)
    own = hardened(torch.log_softmax(logits.detach(), -1), None)
    torch.testing.assert_close(pull, torch.softmax(logits.detach(), -1) - own)


def test_uniform_beliefs_cost_the_logarithm_of_the_classes() -> None:
    given = LossInputs(torch.tensor([0]), Dense(torch.zeros(1, 5)))
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
    drawn = torch.log_softmax(torch.randn(160, 2, generator=torch.Generator().manual_seed(3)), -1)
    for start in range(0, 160, 16):
        window.add(drawn[start : start + 16], drawn[start : start + 16].exp())
    assert len(window) == 64
    again = Window(2, rows=64)
    again.load_state(window.state())
    steps = drawn[-64:].view(4, 16, 2)
    around = (steps - steps.mean(1, keepdim=True)).reshape(64, 2)
    bias = fit_bias(around, drawn[-64:].exp().mean(0)).float() - steps[-1].mean(0)
    found = again.bias()
    assert found is not None
    torch.testing.assert_close(found, bias)
    with pytest.raises(ValueError, match="too short"):
        Window(2, rows=10)


@pytest.mark.parametrize("size", [4, 16, 50])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_student_that_drifts_is_still_hardened_in_the_teachers_shares(
    classes: int, size: int
) -> None:
    """A threshold fitted to how the student was before would find all of a step on one side."""
    maker, window = torch.Generator().manual_seed(4), Window(classes)
    share = torch.tensor([0.6, 0.4] if classes == 2 else [0.5, 0.3, 0.2])
    found = []
    for step in range(400 // size):
        lean = torch.linspace(0, 1, classes) * step * size / 20  # to one class, more and more
        log_p = torch.log_softmax(torch.randn(size, classes, generator=maker) * 0.5 + lean, -1)
        window.add(log_p, share.expand(size, classes))
        found.append(hardened(log_p, window.bias()))
    shares = torch.cat(found[40 // size + 1 :]).mean(0)
    assert (shares - share).abs().max() < 0.12


def test_terms_switched_off_are_0_even_of_outcomes_ruled_out() -> None:
    logits = torch.tensor([[0.0, -math.inf]], requires_grad=True)
    over = make_loss("mix(lm=0, kd=1, kd_schedule=linear_off)")(logits, LossInputs(progress=1.0))
    over.sum().backward()
    assert over.item() == 0 and logits.grad is not None and (logits.grad == 0).all()


def test_gjsd_jumps_at_its_ends_unless_normalised() -> None:
    q, p = logs(Q), logs([0.1, 0.2, 0.7])
    for beta, end in [(1e-4, forward_kl(q, p)), (1 - 1e-4, reverse_kl(q, p))]:
        assert jsd(q, p, beta=beta) < 1e-3 * end
        torch.testing.assert_close(jsd(q, p, beta=beta, normalize=True), end, rtol=1e-3, atol=0)
    torch.testing.assert_close(jsd(q, p, beta=0), forward_kl(q, p))


def test_words_tell_the_direction_also_where_jsd_ends_in_a_kl() -> None:
    for text, words in [
        ("kd", "KL(teacher || student)"),
        ("kd(divergence=reverse)", "KL(student || teacher)"),
        ("kd(divergence=jsd, beta=0)", "KL(teacher || student)"),
        ("kd(divergence=jsd, beta=1)", "KL(student || teacher)"),
        ("kd(divergence=jsd)", "beta KL(teacher || mean)"),
        ("mix(kd=1, divergence=reverse)", "KL(student || teacher)"),
    ]:
        assert words in make_loss(text).describe()


def test_a_bias_is_asked_for_only_where_shares_are_matched() -> None:
    assert make_loss("logconf").needs == {"teacher", "bias"}
    assert make_loss("logconf(prior=none)").needs == {"teacher"}


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


def test_lm_on_gold_learns_no_other_answer() -> None:
    logits, given = draw("dense")
    gold = torch.arange(len(logits)) % 3 == 0
    got = make_loss("mix(lm=2, kd=0.5, lm_on=gold)")(logits, replace(given, trusted=gold))
    lm, kd = (make_loss(text)(logits, given) for text in ("lm", "kd"))
    torch.testing.assert_close(got, 2 * lm * gold + 0.5 * kd)
    with pytest.raises(ValueError, match="which targets are trusted"):
        make_loss("mix(lm_on=gold)")(logits, replace(given, trusted=None))
