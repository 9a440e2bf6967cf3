"""Knowledge distillation: the student's next-token distribution follows the teacher's."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pilotfish.errors import UsageError
from pilotfish.losses.align import both_logs, student_logs, target_column, with_target
from pilotfish.losses.divergences import (
    Divergence,
    floored,
    forward_kl,
    jsd,
    reverse_kl,
    skew_kl,
    skew_reverse_kl,
    total_variation,
)
from pilotfish.losses.inputs import (
    Dense,
    LossInputs,
    Sampled,
    TopK,
    check_choice,
    check_flag,
    check_number,
)
from pilotfish.losses.soft_ce import sampled_ce

DIVERGENCES: dict[str, tuple[Divergence, str]] = {
    "forward": (
        forward_kl,
        "forward KL(teacher || student): the student covers whatever the teacher finds likely",
    ),
    "reverse": (
        reverse_kl,
        "reverse KL(student || teacher): the student avoids what the teacher finds unlikely",
    ),
    "jsd": (jsd, "generalised JSD, beta KL(teacher || mean) + (1 - beta) KL(student || mean)"),
    "skew": (skew_kl, "skewed KL(teacher || teacher mixed into the student)"),
    "skew_reverse": (skew_reverse_kl, "skewed KL(student || student mixed into the teacher)"),
    "tv": (total_variation, "total variation between teacher and student"),
}


def kd(
    logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0, vocabulary: int | None
) -> Tensor:
    """KL(q_T || p_T) * T^2 of Hinton et al. 2015 (arXiv:1503.02531), q the teacher, p the student.

    With the weak model as teacher: arXiv:2501.09223.

    Args:
        logits: [m, v] of the student.
        teacher_logits: [m, u].
        temperature: T > 0.
        vocabulary: Number of real columns in both heads; None: all, v = u.

    Returns:
        [m] nats >= 0.

    Raises:
        ValueError: One of the heads does not hold the vocabulary.
    """
    return KD(temperature=temperature)(
        logits, LossInputs(teacher=Dense(teacher_logits), vocabulary=vocabulary)
    )


def corrected(
    log_q: Tensor, column: Tensor, trusted: Tensor, *, margin: float, tokens: int | None = None
) -> Tensor:
    """Move a teacher towards trusted targets that are not its own first choice.

    q' = (1 - s) q + s * target, with the smallest s for which the target leads every other token
    by `margin` in probability. The idea is margin-corrected fine-tuning of NVIDIA's
    Model-Optimizer; the formula is ours.

    Args:
        log_q: [m, w] nats of the teacher.
        column: [m] the column of each target.
        trusted: [m] bool. Rows without it, and rows whose first choice is the target, are kept.
        margin: Lead in probability, in (0, 1).
        tokens: Columns from here on hold many tokens each (the rest of a top-k teacher), and do
            not compete with the target.

    Returns:
        [m, w] nats.
    """
    q, at = log_q.exp(), column[:, None]
    own = q.gather(-1, at)
    rival = q.scatter(-1, at, -1.0)[:, :tokens].amax(-1, keepdim=True)
    share = (margin + rival - own) / (1 + rival - own)
    moved = ((1 - share) * q).scatter_add(-1, at, share)
    wrong = trusted[:, None] & (rival > own)
    return torch.where(wrong, floored(moved.clamp(min=0).log()), log_q)


@dataclass(frozen=True)
class KD:
    """A divergence of the student from the teacher at temperature T, times T^2.

    Attributes:
        temperature: T > 0; 1 leaves the distributions as they are.
        divergence: forward, reverse, jsd, skew, skew_reverse or tv.
        beta: Of jsd, in [0, 1].
        normalize: Of jsd: whether to divide by beta (1 - beta).
        skew: Of skew and skew_reverse, in [0, 0.99].
        t2_scale: Whether to multiply by T^2, which keeps the size of the gradient as T grows.
        correct: Margin in probability by which a trusted target leads in a teacher whose first
            choice it was not; 0 is off.
        gate: Learn only at tokens where the teacher gives the target more probability than the
            student does. A target that a top-k teacher did not store has probability 0.
    """

    temperature: float = 1.0
    divergence: str = "forward"
    beta: float = 0.5
    normalize: bool = False
    skew: float = 0.1
    t2_scale: bool = True
    correct: float = 0.0
    gate: bool = False

    def __post_init__(self) -> None:
        check_number("kd", "temperature", self.temperature, above=True)
        check_choice("kd", "divergence", self.divergence, tuple(DIVERGENCES))
        check_number("kd", "beta", self.beta, high=1)
        check_number("kd", "skew", self.skew, high=0.99)
        check_number("kd", "correct", self.correct, high=0.99)
        for setting in ("normalize", "t2_scale", "gate"):
            check_flag("kd", setting, getattr(self, setting))

    @property
    def needs(self) -> frozenset[str]:
        """The teacher, and where it is corrected, which targets are trusted."""
        return frozenset({"teacher", "trusted"} if self.correct else {"teacher"})

    def __call__(self, logits: Tensor, inputs: LossInputs) -> Tensor:
        """Return [m] nats >= 0 of logits [m, v] and a teacher.

        A sampled teacher gives forward KL plus the entropy of the teacher, which draws do not
        hold: the value is that of soft_ce.

        Raises:
            ValueError: The teacher is missing, or targets or trusted marks that the settings need.
            UsageError: A stored teacher does not support the settings.
        """
        if isinstance(inputs.teacher, Sampled):
            if self != KD(t2_scale=self.t2_scale):
                raise UsageError(
                    "a sampled teacher serves kd(divergence=forward) at temperature 1 and nothing "
                    "else",
                    hint="store its top-k, or train with an online teacher",
                )
            return sampled_ce(student_logs(logits, inputs), inputs.teacher)
        if self.correct or self.gate:
            inputs = with_target(inputs)
        log_q, log_p = both_logs(logits, inputs, self.temperature)
        if self.correct:
            if inputs.trusted is None:
                raise ValueError("kd(correct=...) needs to know which targets are trusted")
            log_q = corrected(
                log_q,
                target_column(inputs),
                inputs.trusted,
                margin=self.correct,
                tokens=-1 if isinstance(inputs.teacher, TopK) else None,
            )
        divergence = partial(DIVERGENCES[self.divergence][0], **self._divergence_settings())
        found = divergence(log_q, log_p)
        if self.t2_scale:
            found = found * self.temperature**2
        return found * self._gate(logits, inputs) if self.gate else found

    def describe(self) -> str:
        """Describe the loss in words, with the direction of the divergence."""
        settings = {
            "jsd": f", beta {self.beta:g}" + (", normalised" if self.normalize else ""),
            "skew": f", skew {self.skew:g}",
            "skew_reverse": f", skew {self.skew:g}",
        }
        times = ", times its square" if self.t2_scale else ""
        more = f"; gold targets lead by {self.correct:g}" if self.correct else ""
        gate = "; only where the teacher finds the target likelier" if self.gate else ""
        ends = {0.0: "forward", 1.0: "reverse"} if self.divergence == "jsd" else {}
        name = ends.get(self.beta, self.divergence)  # at its ends, jsd is defined as a KL
        return (
            f"{DIVERGENCES[name][1]}{settings.get(self.divergence, '')}, "
            f"at temperature {self.temperature:g}{times}{more}{gate}"
        )

    def _divergence_settings(self) -> dict[str, Any]:
        if self.divergence == "jsd":
            return {"beta": self.beta, "normalize": self.normalize}
        return {"skew": self.skew} if self.divergence.startswith("skew") else {}

    @staticmethod
    @torch.no_grad()
    def _gate(logits: Tensor, inputs: LossInputs) -> Tensor:
        """Return [m] 1 where the teacher gives the target more than the student does, else 0."""
        log_q, log_p = both_logs(logits, inputs)
        at = target_column(inputs)[:, None]
        return (log_q.gather(-1, at) > log_p.gather(-1, at)).squeeze(-1).to(log_p.dtype)
