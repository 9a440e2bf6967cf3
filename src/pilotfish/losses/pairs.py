"""Puts student and teacher over the same outcomes, whatever form the teacher comes in.

Head columns from `vocabulary` on are padding: they are cut off on both sides, which is softmax with
-inf there. Zeros in their place would be real mass.
"""

import torch
from torch import Tensor

from pilotfish.errors import UsageError
from pilotfish.losses.divergences import FLOOR, floored
from pilotfish.losses.given import Dense, Given, TopK
from pilotfish.losses.lm import log_probabilities

LEAST_REST = 2.0**-24  # the smallest mass half precision can hold: less was stored as 0


def width_of(logits: Tensor, given: Given) -> int:
    """How many columns of the student's head are real. ValueError where there are fewer."""
    width = logits.shape[-1] if given.vocabulary is None else given.vocabulary
    if width > logits.shape[-1]:
        raise ValueError(f"a head of {logits.shape[-1]} columns holds no vocabulary of {width}")
    return width


def student_logs(logits: Tensor, given: Given, temperature: float = 1.0) -> Tensor:
    """[m, w] log p over the real columns, in fp32 at least."""
    return floored(log_probabilities(logits[:, : width_of(logits, given)], temperature))


def dense_logs(logits: Tensor, given: Given, temperature: float = 1.0) -> Tensor:
    """[m, w] log q of a dense teacher over the student's real columns, without gradient.

    ValueError without a teacher, and where the heads do not both hold the vocabulary; UsageError
    for a teacher of which only a part was stored.
    """
    if given.teacher is None:
        raise ValueError("this loss needs the teacher's logits")
    if not isinstance(given.teacher, Dense):
        raise UsageError(
            "this loss needs the teacher's whole distribution, and only a part of it was stored",
            hint="use an online or dense teacher, or soft_ce or kd",
        )
    taught, width = given.teacher.logits.detach(), width_of(logits, given)
    if width > taught.shape[-1] or (given.vocabulary is None and width != taught.shape[-1]):
        raise ValueError(
            f"heads of {logits.shape[-1]} and {taught.shape[-1]} columns "
            f"do not share a vocabulary of {width}"
        )
    return floored(log_probabilities(taught[:, :width], temperature))


def both_logs(logits: Tensor, given: Given, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """(log q, log p), [m, w] each: all tokens for a dense teacher, k + 1 buckets for top-k.

    The last bucket is the rest, for the student by logsumexp. Merging tokens into a bucket never
    makes distributions differ more, so every divergence of buckets is at most the dense one.
    ValueError without a teacher; UsageError for one that this cannot be read from.
    """
    if given.teacher is None:
        raise ValueError("this loss needs a teacher")
    if isinstance(given.teacher, Dense):
        return dense_logs(logits, given, temperature), student_logs(logits, given, temperature)
    if not isinstance(given.teacher, TopK):
        raise UsageError(
            "a sampled teacher tells no distribution, only draws from one",
            hint="train with soft_ce or kd(divergence=forward), or store its top-k",
        )
    if temperature != 1:
        raise UsageError(
            f"top-k log-probabilities were stored at temperature 1 and cannot be read at "
            f"{temperature:g}: what is not stored would change too",
            hint="use temperature=1, or an online or dense teacher",
        )
    return _buckets(student_logs(logits, given), given.teacher)


def _buckets(log_p: Tensor, teacher: TopK) -> tuple[Tensor, Tensor]:
    width = log_p.shape[-1]
    known = teacher.ids < width  # a token that pads the teacher's head has no place here
    logs = torch.where(known, teacher.logs.detach().to(log_p.dtype), FLOOR)
    picked = torch.where(known, log_p.gather(-1, teacher.ids.clamp(max=width - 1)), FLOOR)
    if teacher.ids.shape[-1] >= width:  # nothing is left to be a rest
        return floored(torch.log_softmax(logs, -1)), picked
    rest = teacher.rest.detach().to(log_p.dtype).clamp(min=LEAST_REST).log()
    # over all k + 1 buckets, for half precision rounds each: the k alone are never renormalised
    log_q = floored(torch.log_softmax(torch.cat([logs, rest[:, None]], -1), -1))
    left = log1mexp(torch.logsumexp(picked, -1))
    return log_q, torch.cat([picked, left[:, None]], -1)


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x <= 0, kept finite where x rounds to 0."""
    x = x.clamp(max=-torch.finfo(x.dtype).eps)
    near = x > -0.6931
    return torch.where(
        near,
        torch.log(-torch.expm1(torch.where(near, x, -0.1))),
        torch.log1p(-torch.exp(torch.where(near, -1.0, x))),
    )
