"""Divergences of a student p from its teacher q: pure functions of two log-distributions.

All take log q and log p, [m, w] nats, floored so that a probability of 0 is exp(-1e30) and no term
becomes nan. They return [m] nats >= 0 (total variation: no unit, in [0, 1]).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Divergence = Callable[[Tensor, Tensor], Tensor]

FLOOR = -1e30  # stands for log 0: 0 * FLOOR is 0, where 0 * -inf would be nan


def floored(logs: Tensor) -> Tensor:
    """Replace -inf in log-probabilities by `FLOOR`."""
    return logs.clamp(min=FLOOR)


def forward_kl(log_q: Tensor, log_p: Tensor) -> Tensor:
    """KL(q || p) = sum q (log q - log p): the student must cover what the teacher finds likely."""
    return (log_q.exp() * (log_q - log_p)).sum(-1)


def reverse_kl(log_q: Tensor, log_p: Tensor) -> Tensor:
    """KL(p || q): the student must avoid what the teacher finds unlikely."""
    return forward_kl(log_p, log_q)


def jsd(log_q: Tensor, log_p: Tensor, *, beta: float = 0.5, normalize: bool = False) -> Tensor:
    """Generalised JSD (arXiv:2306.13649): beta KL(q || m) + (1 - beta) KL(p || m) <= ln 2.

    Here m = beta q + (1 - beta) p.

    Args:
        log_q: [m, w] nats of the teacher.
        log_p: [m, w] nats of the student.
        beta: In [0, 1]. 0 is defined as KL(q || p) and 1 as KL(p || q), but the plain value tends
            to 0 there: with a tiny beta, distillation does nothing.
        normalize: Whether to divide by beta (1 - beta), which makes the ends meet.
    """
    if beta in (0, 1):
        return reverse_kl(log_q, log_p) if beta else forward_kl(log_q, log_p)
    middle = torch.logaddexp(log_q + math.log(beta), log_p + math.log1p(-beta))
    found = beta * forward_kl(log_q, middle) + (1 - beta) * forward_kl(log_p, middle)
    return found / (beta * (1 - beta)) if normalize else found


def skew_kl(log_q: Tensor, log_p: Tensor, *, skew: float = 0.1) -> Tensor:
    """KL(q || skew q + (1 - skew) p) of DistiLLM (arXiv:2402.03898); skew 0 is KL(q || p).

    At most -log(skew), also where the supports are disjoint.
    """
    return forward_kl(log_q, _mixture(log_q, log_p, skew))


def skew_reverse_kl(log_q: Tensor, log_p: Tensor, *, skew: float = 0.1) -> Tensor:
    """KL(p || skew p + (1 - skew) q) <= -log(skew); skew 0 is KL(p || q)."""
    return forward_kl(log_p, _mixture(log_p, log_q, skew))


def total_variation(log_q: Tensor, log_p: Tensor) -> Tensor:
    """Half the summed difference of probabilities, sum |q - p| / 2, in [0, 1]."""
    return 0.5 * (log_q.exp() - log_p.exp()).abs().sum(-1)


def _mixture(log_a: Tensor, log_b: Tensor, skew: float) -> Tensor:
    """Return log(skew a + (1 - skew) b)."""
    if skew == 0:
        return log_b
    return torch.logaddexp(log_a + math.log(skew), log_b + math.log1p(-skew))
