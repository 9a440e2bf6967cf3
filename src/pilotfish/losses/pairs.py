"""Puts student and teacher over the same outcomes, whatever form the teacher comes in.

Head columns from `vocabulary` on are padding: they are cut off on both sides, which is softmax with
-inf there. Zeros in their place would be real mass.
"""

from dataclasses import replace

import torch
from torch import Tensor

from pilotfish.errors import UsageError
from pilotfish.losses.divergences import FLOOR, floored
from pilotfish.losses.given import Dense, Given, TopK
from pilotfish.losses.lm import log_probabilities

NO_TOKEN = 2**31 - 1  # an id beyond every head: names no outcome
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

    The last bucket is the rest, for the student the sum of what is not stored. Merging tokens into
    a bucket never makes distributions differ more, so every divergence of buckets is at most the
    dense one.
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


def with_target(given: Given) -> Given:
    """The same, where a top-k teacher has every target among its tokens.

    One that was not stored is added with probability 0: all that is known is that it is at most the
    least one stored. ValueError without targets.
    """
    if given.targets is None:
        raise ValueError("this loss needs the targets")
    teacher, at = given.teacher, given.targets[:, None]
    if not isinstance(teacher, TopK):
        return given
    stored = (teacher.ids == at).any(-1, keepdim=True)
    ids = torch.where(stored, NO_TOKEN, at)
    nothing = torch.full_like(teacher.logs[:, :1], float("-inf"))
    added = replace(
        teacher, ids=torch.cat([teacher.ids, ids], -1), logs=torch.cat([teacher.logs, nothing], -1)
    )
    return replace(given, teacher=added)


def target_column(given: Given) -> Tensor:
    """[m] where the target stands in the outcomes of `both_logs`, after `with_target`."""
    assert given.targets is not None
    if isinstance(given.teacher, TopK):
        return (given.teacher.ids == given.targets[:, None]).int().argmax(-1)
    return given.targets


def _buckets(log_p: Tensor, teacher: TopK) -> tuple[Tensor, Tensor]:
    width = log_p.shape[-1]
    known = teacher.ids < width  # a token that pads the teacher's head has no place here
    logs = torch.where(known, teacher.logs.detach().to(log_p.dtype), FLOOR)
    picked = torch.where(known, log_p.gather(-1, teacher.ids.clamp(max=width - 1)), FLOOR)
    rest = teacher.rest.detach().to(log_p.dtype).clamp(min=LEAST_REST).log()
    rest = torch.where(known.sum(-1) < width, rest, FLOOR)  # else there is nothing to be a rest
    # over all k + 1 buckets, for half precision rounds each: the k alone are never renormalised
    log_q = floored(torch.log_softmax(torch.cat([logs, rest[:, None]], -1), -1))
    left = _rest_of(log_p, torch.where(known, teacher.ids, width))
    return log_q, torch.cat([picked, left[:, None]], -1)


def _rest_of(log_p: Tensor, ids: Tensor) -> Tensor:
    """[m] log of the student's probability of all but `ids`; an id of w or more names nothing.

    Summed, not 1 minus the others: a student sure of the ids would round it to 0 in fp32, and the
    gradient that must raise it with it.
    """
    width = log_p.shape[-1]
    named = torch.zeros(len(log_p), width + 1, dtype=torch.bool, device=log_p.device)
    named.scatter_(-1, ids, True)
    return floored(torch.logsumexp(log_p.masked_fill(named[:, :width], FLOOR), -1))
