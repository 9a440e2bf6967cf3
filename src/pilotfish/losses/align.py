"""Express student and teacher as log-distributions over the same outcomes.

Columns of a head from `vocabulary` on are padding. They are cut off on both sides, which equals a
softmax with -inf there; zeros in their place would be real probability.
"""

from dataclasses import replace

import torch
from torch import Tensor

from pilotfish.errors import UsageError
from pilotfish.losses.divergences import FLOOR, floored
from pilotfish.losses.inputs import Dense, LossInputs, TopK
from pilotfish.losses.lm import in_fp32, log_probabilities

NO_TOKEN = 2**31 - 1  # an id beyond every head: stands for no outcome
LEAST_REST = 2.0**-24  # the smallest mass half precision can hold: less was stored as 0


def width_of(logits: Tensor, inputs: LossInputs) -> int:
    """Return how many columns of the student's head are real.

    Raises:
        ValueError: The head has fewer columns than the vocabulary.
    """
    width = logits.shape[-1] if inputs.vocabulary is None else inputs.vocabulary
    if width > logits.shape[-1]:
        raise ValueError(f"a head of {logits.shape[-1]} columns holds no vocabulary of {width}")
    return width


def student_logs(logits: Tensor, inputs: LossInputs, temperature: float = 1.0) -> Tensor:
    """Return log p over the real columns. [m, v] -> [m, w] nats, in fp32 or more."""
    return floored(log_probabilities(logits[:, : width_of(logits, inputs)], temperature))


def dense_logs(logits: Tensor, inputs: LossInputs, temperature: float = 1.0) -> Tensor:
    """Return log q of a dense teacher over the student's real columns, without gradient.

    Args:
        logits: [m, v] of the student.
        inputs: With a dense teacher, logits [m, u].
        temperature: T > 0 that divides the teacher's logits.

    Returns:
        [m, w] nats.

    Raises:
        ValueError: No teacher, or one of the heads does not hold the vocabulary.
        UsageError: Only a part of the teacher was stored.
    """
    if inputs.teacher is None:
        raise ValueError("this loss needs the teacher's logits")
    if not isinstance(inputs.teacher, Dense):
        raise UsageError(
            "this loss needs the teacher's whole distribution, and only a part of it was stored",
            hint="use an online or dense teacher, or soft_ce or kd",
        )
    teacher, width = inputs.teacher.logits.detach(), width_of(logits, inputs)
    if width > teacher.shape[-1] or (inputs.vocabulary is None and width != teacher.shape[-1]):
        raise ValueError(
            f"heads of {logits.shape[-1]} and {teacher.shape[-1]} columns "
            f"do not share a vocabulary of {width}"
        )
    return floored(log_probabilities(teacher[:, :width], temperature))


def both_logs(
    logits: Tensor, inputs: LossInputs, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return (log q, log p) of teacher and student over the same outcomes.

    The outcomes are all tokens for a dense teacher, and k + 1 buckets for a top-k teacher: its k
    tokens and the rest, which for the student is the sum of all other tokens. Merging tokens never
    increases a divergence, so every divergence of buckets is at most the dense one.

    Args:
        logits: [m, v] of the student.
        inputs: With a dense or top-k teacher.
        temperature: T > 0 that divides both logits; 1 for a top-k teacher.

    Returns:
        [m, w] or [m, k + 1] nats each.

    Raises:
        ValueError: No teacher.
        UsageError: The stored teacher does not give this.
    """
    if inputs.teacher is None:
        raise ValueError("this loss needs a teacher")
    if isinstance(inputs.teacher, Dense):
        return dense_logs(logits, inputs, temperature), student_logs(logits, inputs, temperature)
    if not isinstance(inputs.teacher, TopK):
        raise UsageError(
            "a sampled teacher holds no distribution, only draws from one",
            hint="train with soft_ce or kd(divergence=forward), or store its top-k",
        )
    if temperature != 1:
        raise UsageError(
            f"top-k log-probabilities were stored at temperature 1 and cannot be read at "
            f"{temperature:g}: what is not stored would change too",
            hint="use temperature=1, or an online or dense teacher",
        )
    return _buckets(in_fp32(logits[:, : width_of(logits, inputs)]), inputs.teacher)


def with_target(inputs: LossInputs) -> LossInputs:
    """Add missing targets to the tokens of a top-k teacher; other teachers stay as they are.

    A target that was not stored gets probability 0: all that is known of it is that it is at most
    the least one stored. Raises ValueError without targets.
    """
    if inputs.targets is None:
        raise ValueError("this loss needs the targets")
    teacher, at = inputs.teacher, inputs.targets[:, None]
    if not isinstance(teacher, TopK):
        return inputs
    stored = (teacher.ids == at).any(-1, keepdim=True)
    ids = torch.where(stored, NO_TOKEN, at)
    zero = torch.full_like(teacher.logs[:, :1], float("-inf"))
    added = replace(
        teacher, ids=torch.cat([teacher.ids, ids], -1), logs=torch.cat([teacher.logs, zero], -1)
    )
    return replace(inputs, teacher=added)


def target_column(inputs: LossInputs) -> Tensor:
    """Return [m] the column of each target in the outcomes of `both_logs`, after `with_target`."""
    assert inputs.targets is not None
    if isinstance(inputs.teacher, TopK):
        return (inputs.teacher.ids == inputs.targets[:, None]).int().argmax(-1)
    return inputs.targets


def _buckets(logits: Tensor, teacher: TopK) -> tuple[Tensor, Tensor]:
    """Return (log q, log p), [m, k + 1] each, of the student's real columns [m, w] and a teacher.

    The student's rest is an outcome whose logit sums up the tokens that were not stored. 1 minus
    the stored ones would be 0 in fp32 for a student sure of them, and so would the gradient that
    must raise the rest.
    """
    width, ids = logits.shape[-1], teacher.ids
    known = ids < width  # a token that pads the teacher's head does not exist here
    logs = torch.where(known, teacher.logs.detach().to(logits.dtype), FLOOR)
    rest = teacher.rest.detach().to(logits.dtype).clamp(min=LEAST_REST).log()
    rest = torch.where(known.sum(-1) < width, rest, FLOOR)  # else no token is left for the rest
    stored = torch.where(known, logits.gather(-1, ids.clamp(max=width - 1)), FLOOR)
    # unknown ids repeat a known one, so that they take nothing out of the rest
    out = torch.where(known, ids, ids.amin(-1, keepdim=True)).clamp(max=width - 1)
    left = torch.logsumexp(logits.scatter(-1, out, FLOOR), -1)
    # over all k + 1 buckets, for half precision rounds each: the k alone are never renormalised
    log_q = torch.log_softmax(torch.cat([logs, rest[:, None]], -1), -1)
    log_p = torch.log_softmax(torch.cat([stored, left[:, None]], -1), -1)
    return floored(log_q), floored(log_p)
