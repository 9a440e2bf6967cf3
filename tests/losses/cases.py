"""Every loss of the table, with the teachers it can learn from: a new one is under the laws."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pilotfish.errors import UsageError
from pilotfish.losses import LOSSES, Dense, Loss, LossInputs, Sampled, TopK, build_loss, make_loss
from pilotfish.losses.divergences import FLOOR
from pilotfish.losses.kd import DIVERGENCES

M, V, K = 11, 7, 3
Q, P = [0.5, 0.25, 0.25], [0.25, 0.25, 0.5]  # a teacher and a student for values by hand

KNOBS: dict[str, list[dict[str, Any]]] = {
    "lm": [{"smoothing": 0.2}],
    "soft_ce": [{"smoothing": 0.2}],
    "kd": [
        {"temperature": 2.5},
        {"temperature": 2.5, "t2_scale": False},
        *({"divergence": each} for each in DIVERGENCES),
        {"divergence": "jsd", "beta": 0.1, "normalize": True},
        {"correct": 0.2},
        {"gate": True},
        {"correct": 0.2, "gate": True, "divergence": "reverse"},
    ],
    "mix": [
        {"lm": 1, "kd": 0},
        {"lm": 0, "kd": 2.0, "temperature": 0.5},
        {"lm": 1, "kd": 0.5, "kd_schedule": "until_surpass", "divergence": "reverse"},
        {"lm": 1, "kd": 0.5, "lm_on": "gold"},
        {"lm": 1, "kd": 1, "base": 0.5, "conf": 0.3, "above": 0.3, "kd_schedule": "linear_off"},
    ],
    "logconf": [{"alpha": 1.0, "warmup": 0}, {"prior": "none"}],
    "logconf_tokens": [{"above": 0.3}],
    "product": [{"alpha": 0.5, "beta": 0.0}],
}
FORMS = ("none", "dense", "topk", "sampled")


class Case(NamedTuple):
    name: str
    knobs: dict[str, Any]
    form: str  # of the teacher

    @property
    def loss(self) -> Loss:
        return build_loss(self.name, self.knobs)

    def __str__(self) -> str:
        knobs = ",".join(f"{key}={value}" for key, value in self.knobs.items())
        return f"{self.name}({knobs})-{self.form}"


def draw(
    form: str, dtype: torch.dtype = torch.float64, *, rows: int = M
) -> tuple[Tensor, LossInputs]:
    """Logits [rows, V] and everything a loss may ask for."""
    maker = torch.Generator().manual_seed(3)
    logits, taught, base = (
        (torch.randn(rows, V, generator=maker, dtype=torch.float64) * 3).to(dtype) for _ in "abc"
    )
    bias = torch.linspace(-0.5, 0.5, V, dtype=torch.float64)
    targets = torch.randint(V, (rows,), generator=maker)
    gold = torch.arange(rows) % 2 == 0
    given = LossInputs(targets, teacher_of(form, taught), base, gold, bias, progress=0.25)
    return logits, given


def logs(*rows: list[float]) -> Tensor:
    """Log-probabilities of rows of probabilities."""
    return torch.tensor(rows, dtype=torch.float64).log().clamp(min=FLOOR)


def value(text: str, p: list[float], given: LossInputs) -> float:
    """The loss of one row with a student that believes p."""
    return float(make_loss(text)(logs(p), given))


def teacher_of(form: str, logits: Tensor, *, k: int = K) -> Any:
    """The same teacher in another form."""
    if form == "none":
        return None
    if form == "dense":
        return Dense(logits)
    logs, ids = torch.log_softmax(logits.float().double(), -1).topk(k, -1)
    if form == "topk":
        return TopK(ids, logs, 1 - logs.exp().sum(-1))
    return Sampled(ids, torch.softmax(logs, -1))


def _accepted(name: str, knobs: dict[str, Any], form: str) -> bool:
    loss = build_loss(name, knobs)
    if (form == "none") == ("teacher" in loss.needs):
        return False  # either it lacks its teacher, or a teacher would change nothing
    try:
        loss(*draw(form))
    except UsageError:
        return False
    return True


CASES = [
    Case(name, knobs, form)
    for name in LOSSES
    for knobs in ({}, *KNOBS.get(name, []))
    for form in FORMS
    if _accepted(name, knobs, form)
]
