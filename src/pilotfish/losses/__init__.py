"""The losses of the strong model: one file per loss, pure functions on gathered token rows.

Every loss returns nats per row. The trainer divides their sum by the *global* number of supervised
tokens, so that no micro-batch, rank or short answer weighs more than another.
"""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, Protocol

from torch import Tensor

from pilotfish.config import parse_method
from pilotfish.errors import UsageError, unknown_name
from pilotfish.losses.class_bias import Window, fit_bias
from pilotfish.losses.dft import DFT
from pilotfish.losses.inputs import Dense, LossInputs, Sampled, Teacher, TopK, summed
from pilotfish.losses.kd import KD, kd
from pilotfish.losses.lm import LM, lm
from pilotfish.losses.logconf import LogConf
from pilotfish.losses.logconf_tokens import LogConfTokens
from pilotfish.losses.mix import Mix
from pilotfish.losses.product import Product
from pilotfish.losses.soft_ce import SoftCE

__all__ = [
    "DFT",
    "KD",
    "LM",
    "LOSSES",
    "Dense",
    "LogConf",
    "LogConfTokens",
    "Loss",
    "LossInputs",
    "Mix",
    "Product",
    "Sampled",
    "SoftCE",
    "Teacher",
    "TopK",
    "Window",
    "build_loss",
    "fit_bias",
    "kd",
    "lm",
    "make_loss",
    "summed",
]

HELPERS = {"align", "class_bias", "divergences", "inputs"}


class Loss(Protocol):
    """A frozen value: its fields are the settings, calling it returns nats per row."""

    @property
    def needs(self) -> frozenset[str]:
        """The fields of `LossInputs` that it needs besides `targets`: {"teacher"}, {"base"}, ..."""

    def __call__(self, logits: Tensor, inputs: LossInputs) -> Tensor:
        """Return [m] nats of logits [m, v] and the inputs of m rows.

        Raises ValueError where a needed input is missing.
        """

    def describe(self) -> str:
        """Describe the loss in words."""


LOSSES: dict[str, Callable[..., Loss]] = {
    "lm": LM,
    "soft_ce": SoftCE,
    "kd": KD,
    "mix": Mix,
    "logconf": LogConf,
    "logconf_tokens": LogConfTokens,
    "product": Product,
    "dft": DFT,
}


def make_loss(text: str) -> Loss:
    """Build the loss of a LOSS text: `lm`, `kd(temperature=2)`, `mix(lm=0.7, kd=0.3)`."""
    method = parse_method(text)
    return build_loss(method.name, method.args)


def build_loss(name: str, settings: Mapping[str, Any]) -> Loss:
    """Build a loss by name; raise UsageError for an unknown name, setting or value."""
    if name not in LOSSES:
        raise unknown_name("loss", name, LOSSES)
    known = list(signature(LOSSES[name]).parameters)
    if wrong := sorted(set(settings) - set(known)):
        raise UsageError(
            f"the loss '{name}' has no {', '.join(wrong)}; "
            f"it knows {', '.join(known) or 'no settings'}",
            hint="write lm, kd(temperature=1) or mix(lm=0.7, kd=0.3, temperature=1)",
        )
    return LOSSES[name](**settings)
