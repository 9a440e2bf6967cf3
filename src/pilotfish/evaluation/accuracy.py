"""accuracy: among the candidate answers, does the model find the right one likeliest?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pilotfish.evaluation.items import UNBOUNDED, Item
from pilotfish.records import Example, Floats, Measured

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

    A classifier answers by its head instead: the likeliest of its own classes, with the
    probability it gives it. An expected answer that is none of them counts as missed.
    """

    name: str = "accuracy"
    higher_is_better: bool = True

    def items(self, loaded: "Loaded", examples: Sequence[Example]) -> list[Item]:
        """Every row against every candidate, or against every class of a head."""
        if classes := head_of(loaded):
            return self._classified(loaded, examples, classes)
        from pilotfish.engine.likelihood import choice_nll

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

    def _classified(
        self, loaded: "Loaded", examples: Sequence[Example], classes: Sequence[str]
    ) -> list[Item]:
        from pilotfish.engine.classify import classify

        found = classify(loaded, examples, max_length=loaded.window or UNBOUNDED)
        rows = zip(examples, found.log_probs, found.reason, strict=True)
        return [
            Item(example.id, self.name, None, None, example.response)
            if reason
            else self._chosen(example, classes, logs)
            for example, logs, reason in rows
        ]

    def _chosen(self, example: Example, classes: Sequence[str], logs: Floats) -> Item:
        """log_probs [K] -> the class they favour, the first of equals."""
        best = int(np.argmax(logs))
        right = float(classes[best] == example.response)
        sure = min(float(np.exp(logs[best])), 1.0)
        return Item(example.id, self.name, right, classes[best], example.response, sure)

    def _item(self, example: Example, candidates: Sequence[str], costs: Measured) -> Item:
        if not np.isfinite(costs.total).all():
            return Item(example.id, self.name, None, None, example.response)
        chosen = candidates[int(np.argmin(costs.total))]
        right = float(chosen == example.response)
        return Item(example.id, self.name, right, chosen, example.response)


def head_of(loaded: "Loaded") -> tuple[str, ...]:
    """The classes of a classifier in the order of its head; () for a language model."""
    if not type(loaded.model).__name__.endswith("ForSequenceClassification"):
        return ()
    labels = loaded.model.config.id2label
    return tuple(str(labels[at]) for at in sorted(labels))
