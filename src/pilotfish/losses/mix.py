"""A weighted sum of losses with schedules; at kd=0 it is plain lm."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pilotfish.errors import UsageError
from pilotfish.losses.align import student_logs, width_of
from pilotfish.losses.divergences import floored, reverse_kl
from pilotfish.losses.inputs import LossInputs, check_choice, check_number
from pilotfish.losses.kd import KD
from pilotfish.losses.lm import LM, log_probabilities
from pilotfish.losses.logconf_tokens import confidence

SCHEDULES = {
    "constant": "all along",
    "linear_off": "falling to 0 over the run",
    "until_surpass": "until the student does better than its teacher",
}
_TERMS = ("lm", "kd", "base", "conf")


def kl_to_base(logits: Tensor, inputs: LossInputs) -> Tensor:
    """KL(student || frozen base) of every row. [m, v], base [m, v] -> [m] nats >= 0.

    Raises ValueError without the base's logits.
    """
    if inputs.base is None:
        raise ValueError("this loss needs the logits of the frozen base")
    base = log_probabilities(inputs.base.detach()[:, : width_of(logits, inputs)])
    return reverse_kl(floored(base), student_logs(logits, inputs))


@dataclass(frozen=True)
class Mix:
    """lm * cross-entropy + kd * distillation + base * KL(student || base) + conf * confidence.

    LM + KD from a weak teacher: arXiv:2501.09223, ch. 4. `until_surpass`: arXiv:2604.15451.

    Attributes:
        lm, kd, base, conf: Weights >= 0, not all 0; they need not sum to 1.
        temperature, divergence, beta, normalize, skew, t2_scale, correct, gate: Of the kd term,
            as in `KD`.
        above: Probability above which the conf term makes the student surer of a token that is not
            the target.
        lm_on: `all`, or `gold`: the lm term is 0 on rows whose target is not trusted. Those rows
            still count in the mean.
        lm_schedule, conf_schedule: `constant` or `linear_off` (falls to 0 over the run).
        kd_schedule: As before, or `until_surpass`: 0 once the student does better than the teacher
            on the same tokens.
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
        _ = self._kd  # checks its settings
        check_number("mix", "above", self.above, high=1)
        for name in _TERMS:
            check_number("mix", name, getattr(self, name))
        for setting in ("lm_schedule", "conf_schedule"):
            check_choice("mix", setting, getattr(self, setting), ("constant", "linear_off"))
        check_choice("mix", "lm_on", self.lm_on, ("all", "gold"))
        check_choice("mix", "kd_schedule", self.kd_schedule, tuple(SCHEDULES))
        if not any(getattr(self, name) for name in _TERMS):
            raise UsageError("mix with every weight 0 learns nothing", hint="write mix(lm=1, kd=0)")

    @property
    def needs(self) -> frozenset[str]:
        """What the terms of a weight above 0 need."""
        found = set(self._kd.needs) if self.kd else set()
        if self.kd and self.kd_schedule == "until_surpass":
            found.add("surpassed")
        if self.lm and self.lm_on == "gold":
            found.add("trusted")
        return frozenset(found | ({"base"} if self.base else set()))

    def __call__(self, logits: Tensor, inputs: LossInputs) -> Tensor:
        """Return [m] nats of logits [m, v]. A term of weight 0 is not computed.

        Raises ValueError where an input is missing that a term needs.
        """
        terms: dict[str, Callable[[Tensor, LossInputs], Tensor]] = {
            "lm": self._lm,
            "kd": self._kd,
            "base": kl_to_base,
            "conf": self._conf,
        }
        total = torch.zeros((), device=logits.device)
        for name, term in terms.items():
            weight, schedule = getattr(self, name), self._schedule(name)
            if schedule == "linear_off":
                weight = weight * (1 - inputs.progress)
            elif schedule == "until_surpass" and inputs.surpassed:
                weight = 0.0
            if weight:
                total = total + weight * term(logits, inputs)
        # all terms may have weight 0 by now: the result is still [m] and part of the graph
        return total if total.ndim else total + logits[:, :0].float().sum(-1)

    def describe(self) -> str:
        """Describe the loss in words, with the direction of the divergence."""
        words = {
            "lm": LM().describe() + (" of gold rows" if self.lm_on == "gold" else ""),
            "kd": self._kd.describe(),
            "base": "KL(student || the model training started from)",
            "conf": f"the student's own choice where it is surer than {self.above:g} of another "
            "token than the target",
        }
        parts = []
        for name in _TERMS:
            if weight := getattr(self, name):
                schedule = self._schedule(name)
                when = "" if schedule == "constant" else f", {SCHEDULES[schedule]}"
                parts.append(f"{weight:g} x ({words[name]}{when})")
        return " + ".join(parts)

    @property
    def _kd(self) -> KD:
        return KD(
            temperature=self.temperature,
            divergence=self.divergence,
            beta=self.beta,
            normalize=self.normalize,
            skew=self.skew,
            t2_scale=self.t2_scale,
            correct=self.correct,
            gate=self.gate,
        )

    def _schedule(self, term: str) -> str:
        return str(getattr(self, f"{term}_schedule", "constant"))  # base has none

    def _lm(self, logits: Tensor, inputs: LossInputs) -> Tensor:
        nats = LM()(logits, inputs)
        if self.lm_on == "all":
            return nats
        if inputs.trusted is None:
            raise ValueError("mix(lm_on=gold) needs to know which targets are trusted")
        return torch.where(inputs.trusted, nats, torch.zeros_like(nats))

    def _conf(self, logits: Tensor, inputs: LossInputs) -> Tensor:
        if inputs.targets is None:
            raise ValueError("mix(conf=...) needs the targets")
        own, sure = confidence(student_logs(logits, inputs), inputs.targets, above=self.above)
        return torch.where(sure, own, torch.zeros_like(own))
