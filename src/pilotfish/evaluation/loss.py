"""loss: the mean NLL of the expected response, in nats per token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pilotfish.evaluation.items import UNBOUNDED, Item
from pilotfish.records import Example

if TYPE_CHECKING:
    from pilotfish.models import Loaded


@dataclass(frozen=True)
class Loss:
    """Mean NLL of the response given its prompt. In nats per token, >= 0, lower is better.

    Each item counts once, whatever its length. A row with no response token inside the model's
    window has the value None.
    """

    name: str = "loss"
    higher_is_better: bool = False

    def items(self, loaded: "Loaded", examples: Sequence[Example]) -> list[Item]:
        """Return one item per row."""
        from pilotfish.engine.likelihood import response_nll

        means = response_nll(loaded, examples, max_length=loaded.window or UNBOUNDED).mean
        values = [float(nats) if np.isfinite(nats) else None for nats in means]
        return [
            Item(example.id, self.name, value, None, example.response)
            for example, value in zip(examples, values, strict=True)
        ]
