"""A weighted sum of losses with schedules; at kd=0 it is plain lm."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pilotfish.errors import UsageError
from pilotfish.losses.align import student_logs
from pilotfish.losses.anchor import to_base
from pilotfish.losses.inputs import LossInputs
from pilotfish.losses.kd import KD
from pilotfish.losses.lm import LM
from pilotfish.losses.logconf_tokens import confidence
from pilotfish.losses.schedules import SCHEDULES, weight_now
from pilotfish.losses.validate import check_choice, check_number

_TERMS = ("lm", "kd", "base", "conf")


@dataclass(frozen=True)
class Mix:
    """lm * cross-entropy + kd * distillation + base * KL(student || base) + conf * confidence.

    lm, kd, base, conf: weights >= 0, not all 0; they need not sum to 1. temperature, divergence,
    beta, normalize, skew, t2_scale, correct, gate: of the kd term, as in kd. above: from which
    probability on the conf term makes the student surer of a token that is not the target.
    lm_on: all, or gold: only where a person vouches for the target (the lm term of other rows is
    0, and they still count in the mean). lm_schedule, kd_schedule, conf_schedule: constant,
    linear_off, and for kd until_surpass (the teacher is left once the student does better on the
    same tokens, arXiv:2604.15451).
    Source of LM + KD from a weak teacher: arXiv:2501.09223, ch. 4.
    """

    lm: float = 0.7
    kd: float = 0.3
    temperature: float = 1.0
    base: float = 0.0
    conf: float = 0.0
    divergence: str = "forward"
    beta: float = 0.5
    normalize: bool = False
    skew: float = 0.1
    t2_scale: bool = True
    correct: float = 0.0
    gate: bool = False
    above: float = 0.9
    lm_on: str = "all"
    lm_schedule: str = "constant"
    kd_schedule: str = "constant"
    conf_schedule: str = "constant"

    def __post_init__(self) -> None:
        _ = self._kd  # checks its knobs
        check_number("mix", "above", self.above, high=1)
        for name in _TERMS:
            check_number("mix", name, getattr(self, name))
        for name in ("lm", "conf"):
            check_choice(
                "mix", f"{name}_schedule", getattr(self, f"{name}_schedule"),
                ("constant", "linear_off"),
            )  # fmt: skip
        check_choice("mix", "lm_on", self.lm_on, ("all", "gold"))
        check_choice("mix", "kd_schedule", self.kd_schedule, tuple(SCHEDULES))
        if not any(getattr(self, name) for name in _TERMS):
            raise UsageError("mix with every weight 0 learns nothing", hint="write mix(lm=1, kd=0)")

    @property
    def needs(self) -> frozenset[str]:
        """What its terms need, of those that weigh something."""
        found = set(self._kd.needs) if self.kd else set()
        if self.kd and self.kd_schedule == "until_surpass":
            found.add("surpassed")
        if self.lm and self.lm_on == "gold":
            found.add("gold")
        return frozenset(found | ({"base"} if self.base else set()))

    def __call__(self, logits: Tensor, given: LossInputs) -> Tensor:
        """[m, v], what it needs -> [m] nats. A term of weight 0 is not computed."""
        total = torch.zeros((), device=logits.device)
        for name, term in self._terms().items():
            schedule = getattr(self, f"{name}_schedule", "constant")
            if weight := weight_now(getattr(self, name), schedule, given):
                total = total + weight * term(logits, given)
        # every term may have been switched off by now: still [m], still part of the graph
        return total if total.ndim else total + logits[:, :0].float().sum(-1)

    def describe(self) -> str:
        """The loss in words, with the direction of the divergence."""
        words = {
            "lm": LM().describe() + (" of gold rows" if self.lm_on == "gold" else ""),
            "kd": self._kd.describe(),
            "base": "KL(student || the model training started from)",
            "conf": f"the student's own choice where it is surer than {self.above:g} of another "
            "token than the target",
        }
        return " + ".join(
            f"{getattr(self, name):g} x ({words[name]}{self._when(name)})"
            for name in _TERMS
            if getattr(self, name)
        )

    def _when(self, name: str) -> str:
        schedule = getattr(self, f"{name}_schedule", "constant")
        return "" if schedule == "constant" else f", {SCHEDULES[schedule]}"

    def _terms(self) -> dict[str, Callable[[Tensor, LossInputs], Tensor]]:
        return {"lm": self._lm, "kd": self._kd, "base": to_base, "conf": self._conf}

    def _lm(self, logits: Tensor, given: LossInputs) -> Tensor:
        nats = LM()(logits, given)
        if self.lm_on == "all":
            return nats
        if given.gold is None:
            raise ValueError("mix(lm_on=gold) needs to know which targets are gold")
        return torch.where(given.gold, nats, torch.zeros_like(nats))

    @property
    def _kd(self) -> KD:
        return KD(
            temperature=self.temperature, divergence=self.divergence, beta=self.beta,
            normalize=self.normalize, skew=self.skew, t2_scale=self.t2_scale,
            correct=self.correct, gate=self.gate,
        )  # fmt: skip

    def _conf(self, logits: Tensor, given: LossInputs) -> Tensor:
        if given.targets is None:
            raise ValueError("mix(conf=...) needs the targets")
        own, sure = confidence(student_logs(logits, given), given.targets, above=self.above)
        return torch.where(sure, own, torch.zeros_like(own))
