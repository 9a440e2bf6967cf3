"""Knowledge distillation: the student's whole next-token distribution follows the teacher's."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pilotfish.errors import UsageError
from pilotfish.losses.align import both_logs, student_logs, target_column, with_target
from pilotfish.losses.corrected import corrected
from pilotfish.losses.divergences import (
    Divergence,
    forward_kl,
    jsd,
    reverse_kl,
    skew_kl,
    skew_reverse_kl,
    total_variation,
)
from pilotfish.losses.inputs import Dense, LossInputs, Sampled, TopK
from pilotfish.losses.soft_ce import sampled_ce
from pilotfish.losses.validate import check_choice, check_flag, check_number

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
    """Forward KL(q_T || p_T) * T^2; q the teacher, p the student. [m, v], [m, u] -> [m] nats >= 0.

    Source: Hinton et al. 2015, arXiv:1503.02531; the weak model as teacher: arXiv:2501.09223.
    Raises ValueError where the heads do not both hold the vocabulary.
    """
    return KD(temperature=temperature)(
        logits, LossInputs(teacher=Dense(teacher_logits), vocabulary=vocabulary)
    )


@dataclass(frozen=True)
class KD:
    """Learn the teacher's distribution and nothing else.

    temperature: T > 0; 1 leaves the distributions as they are. t2_scale: times T^2, which keeps the
    size of the gradient as T grows. divergence: forward, reverse, jsd, skew, skew_reverse or tv.
    beta, normalize: of jsd. skew: of the skewed ones, in [0, 1). correct: the margin in probability
    by which a gold target leads in a teacher whose first choice it was not; 0 is off. gate: learn
    from the teacher only at tokens where it gives the target more probability than the student
    (a target that a top-k teacher does not name is one that it does not know better).
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
        check_number("kd", "temperature", self.temperature, open_=True)
        check_choice("kd", "divergence", self.divergence, tuple(DIVERGENCES))
        check_number("kd", "beta", self.beta, high=1)
        check_number("kd", "skew", self.skew, high=0.99)
        check_number("kd", "correct", self.correct, high=0.99)
        for knob in ("normalize", "t2_scale", "gate"):
            check_flag("kd", knob, getattr(self, knob))

    @property
    def needs(self) -> frozenset[str]:
        """The teacher, and which targets are gold where it is corrected."""
        return frozenset({"teacher", "gold"} if self.correct else {"teacher"})

    def __call__(self, logits: Tensor, given: LossInputs) -> Tensor:
        """[m, v], a teacher -> [m] nats >= 0. ValueError where something needed is absent.

        A sampled teacher is learnt by forward KL only, up to the entropy of the teacher, which
        draws do not tell: the value is that of soft_ce. UsageError for knobs that a stored teacher
        cannot serve.
        """
        if isinstance(given.teacher, Sampled):
            self._check_sampled()
            return sampled_ce(student_logs(logits, given), given.teacher)
        if self.correct or self.gate:
            given = with_target(given)
        log_q, log_p = both_logs(logits, given, self.temperature)
        if self.correct:
            log_q = self._corrected(log_q, given)
        found = self._divergence()(log_q, log_p)
        if self.t2_scale:
            found = found * self.temperature**2
        return found * self._open(logits, given) if self.gate else found

    def describe(self) -> str:
        """The loss in words, with the direction of the divergence."""
        knobs = {
            "jsd": f", beta {self.beta:g}" + (", normalised" if self.normalize else ""),
            "skew": f", skew {self.skew:g}",
            "skew_reverse": f", skew {self.skew:g}",
        }
        times = ", times its square" if self.t2_scale else ""
        more = f"; gold targets lead by {self.correct:g}" if self.correct else ""
        gate = "; only where the teacher finds the target likelier" if self.gate else ""
        ends = {0.0: "forward", 1.0: "reverse"} if self.divergence == "jsd" else {}
        named = ends.get(self.beta, self.divergence)  # by definition, so it is said as what it is
        return (
            f"{DIVERGENCES[named][1]}{knobs.get(self.divergence, '')}, "
            f"at temperature {self.temperature:g}{times}{more}{gate}"
        )

    def _divergence(self) -> Divergence:
        knobs: dict[str, dict[str, Any]] = {
            "jsd": {"beta": self.beta, "normalize": self.normalize},
            "skew": {"skew": self.skew},
            "skew_reverse": {"skew": self.skew},
        }
        return partial(DIVERGENCES[self.divergence][0], **knobs.get(self.divergence, {}))

    def _check_sampled(self) -> None:
        plain = KD(t2_scale=self.t2_scale)
        if self != plain:
            raise UsageError(
                "a sampled teacher serves kd(divergence=forward) at temperature 1 and nothing else",
                hint="store its top-k, or train with an online teacher",
            )

    def _corrected(self, log_q: Tensor, given: LossInputs) -> Tensor:
        if given.gold is None:
            raise ValueError("kd(correct=...) needs to know which targets are gold")
        named = -1 if isinstance(given.teacher, TopK) else None
        return corrected(log_q, target_column(given), given.gold, margin=self.correct, tokens=named)

    @staticmethod
    @torch.no_grad()
    def _open(logits: Tensor, given: LossInputs) -> Tensor:
        """[m] 1 where the teacher gives the target more than the student does, else 0."""
        log_q, log_p = both_logs(logits, given)
        at = target_column(given)[:, None]
        return (log_q.gather(-1, at) > log_p.gather(-1, at)).squeeze(-1).to(log_p.dtype)
