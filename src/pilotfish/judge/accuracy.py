"""accuracy: among the candidate answers, does the model find the right one likeliest?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pilotfish.judge.items import UNBOUNDED, Item
from pilotfish.records import Example, Measured

if TYPE_CHECKING:
    from pilotfish.models import Loaded


@dataclass(frozen=True)
class Accuracy:
    """1 where the likeliest candidate is the expected answer, else 0. In {0, 1}, higher is better.

    Candidates are the distinct answers of the test rows; the model's answer is the one with the
    least summed NLL given the row's prompt, ties going to the first in sorted order. Nothing is
    generated, so a model that has not learned the form of an answer is still judged on its
    content. A candidate's end mark counts, so that no answer wins by being another's beginning;
    long candidates pay for their length: this is P(answer | prompt), not a mean.
    A row with a candidate that cannot be scored cannot be judged (value None).
    """

    name: str = "accuracy"
    higher_is_better: bool = True

    def items(self, loaded: "Loaded", examples: Sequence[Example]) -> list[Item]:
        """Every row against every candidate."""
        from pilotfish.engine import choice_nll

        candidates = sorted({example.response for example in examples})
        found = choice_nll(
            loaded,
            examples,
            [candidates] * len(examples),
            max_length=loaded.window or UNBOUNDED,
        )
        return [
            self._item(example, candidates, costs)
            for example, costs in zip(examples, found, strict=True)
        ]

    def _item(self, example: Example, candidates: Sequence[str], costs: Measured) -> Item:
        if not np.isfinite(costs.total).all():
            return Item(example.id, self.name, None, None, example.response)
        chosen = candidates[int(np.argmin(costs.total))]
        right = float(chosen == example.response)
        return Item(example.id, self.name, right, chosen, example.response)
