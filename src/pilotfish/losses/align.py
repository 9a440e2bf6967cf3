"""Puts student and teacher over the same outcomes, whatever form the teacher comes in.

Head columns from `vocabulary` on are padding: they are cut off on both sides, which is softmax with
-inf there. Zeros in their place would be real mass.
"""

from dataclasses import replace

import torch
from torch import Tensor

from pilotfish.errors import UsageError
from pilotfish.losses.divergences import FLOOR, floored
from pilotfish.losses.inputs import Dense, LossInputs, TopK
from pilotfish.losses.lm import in_fp32, log_probabilities

NO_TOKEN = 2**31 - 1  # an id beyond every head: names no outcome
LEAST_REST = 2.0**-24  # the smallest mass half precision can hold: less was stored as 0


def width_of(logits: Tensor, given: LossInputs) -> int:
    """How many columns of the student's head are real. ValueError where there are fewer."""
    width = logits.shape[-1] if given.vocabulary is None else given.vocabulary
    if width > logits.shape[-1]:
        raise ValueError(f"a head of {logits.shape[-1]} columns holds no vocabulary of {width}")
    return width


def student_logs(logits: Tensor, given: LossInputs, temperature: float = 1.0) -> Tensor:
    """[m, w] log p over the real columns, in fp32 at least."""
    return floored(log_probabilities(logits[:, : width_of(logits, given)], temperature))


def dense_logs(logits: Tensor, given: LossInputs, temperature: float = 1.0) -> Tensor:
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


def both_logs(logits: Tensor, given: LossInputs, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
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
    return _buckets(in_fp32(logits[:, : width_of(logits, given)]), given.teacher)


def with_target(given: LossInputs) -> LossInputs:
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


def target_column(given: LossInputs) -> Tensor:
    """[m] where the target stands in the outcomes of `both_logs`, after `with_target`."""
    assert given.targets is not None
    if isinstance(given.teacher, TopK):
        return (given.teacher.ids == given.targets[:, None]).int().argmax(-1)
    return given.targets


def _buckets(logits: Tensor, teacher: TopK) -> tuple[Tensor, Tensor]:
    """(log q, log p), [m, k + 1] each, of the student's real columns [m, w] and its teacher.

    The student's rest is an outcome whose logit sums up the tokens not stored. 1 minus the stored
    ones would be 0 in fp32 for a student sure of them, and so would the gradient that must raise
    the rest.
    """
    width, ids = logits.shape[-1], teacher.ids
    known = ids < width  # a token that pads the teacher's head has no place here
    logs = torch.where(known, teacher.logs.detach().to(logits.dtype), FLOOR)
    rest = teacher.rest.detach().to(logits.dtype).clamp(min=LEAST_REST).log()
    rest = torch.where(known.sum(-1) < width, rest, FLOOR)  # else there is nothing to be a rest
    stored = torch.where(known, logits.gather(-1, ids.clamp(max=width - 1)), FLOOR)
    # unknown ids repeat a known one, so that they take nothing out of the rest
    out = torch.where(known, ids, ids.amin(-1, keepdim=True)).clamp(max=width - 1)
    left = torch.logsumexp(logits.scatter(-1, out, FLOOR), -1)
    # over all k + 1 buckets, for half precision rounds each: the k alone are never renormalised
    log_q = torch.log_softmax(torch.cat([logs, rest[:, None]], -1), -1)
    log_p = torch.log_softmax(torch.cat([stored, left[:, None]], -1), -1)
    return floored(log_q), floored(log_p)
