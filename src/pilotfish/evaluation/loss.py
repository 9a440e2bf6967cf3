"""loss: how surprising is the expected response, in nats per token?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pilotfish.evaluation.items import UNBOUNDED, Item
from pilotfish.records import Example, Floats

if TYPE_CHECKING:
    from pilotfish.models import Loaded


@dataclass(frozen=True)
class Loss:
    """Mean NLL of the response given its prompt. In nats per token, >= 0, lower is better.

    Each item counts once, whatever its length. A row with no response token inside the model's
    window cannot be judged (value None).
    """

    name: str = "loss"
    higher_is_better: bool = False

    def items(self, loaded: "Loaded", examples: Sequence[Example]) -> list[Item]:
        """Mean response NLL of every row."""
        from pilotfish.engine.likelihood import response_nll

        found = response_nll(loaded, examples, max_length=loaded.window or UNBOUNDED)
        return [
            Item(example.id, self.name, nats, None, example.response)
            for example, nats in zip(examples, finite_or_none(found.mean), strict=True)
        ]


def finite_or_none(values: Floats) -> list[float | None]:
    """[n] numbers, None where there is none."""
    return [float(value) if np.isfinite(value) else None for value in values]
