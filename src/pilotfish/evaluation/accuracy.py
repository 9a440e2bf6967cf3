"""accuracy: does the model find the right one among the candidate answers likeliest?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pilotfish.evaluation.items import UNBOUNDED, Item
from pilotfish.records import Example, Floats

if TYPE_CHECKING:
    from pilotfish.models import Loaded


@dataclass(frozen=True)
class Accuracy:
    """1 where the likeliest candidate is the expected answer, else 0. In {0, 1}, higher is better.

    Candidates are the distinct answers of the test rows; the model's answer is the one with the
    smallest summed NLL given the row's prompt, ties going to the first in sorted order. Nothing is
    generated, so a model that has not learned the form of an answer is still measured by its
    content. A candidate's end mark counts, so that no answer wins by being another's beginning;
    long candidates pay for their length: this is P(answer | prompt), not a mean.
    A row with a candidate that cannot be scored has the value None.

    A classifier answers with its likeliest class and that class's probability. An expected answer
    that is not one of its classes counts as wrong.
    """

    name: str = "accuracy"
    higher_is_better: bool = True

    def items(self, loaded: "Loaded", examples: Sequence[Example]) -> list[Item]:
        """Return one item per row, from every candidate or from every class of a classifier."""
        classes, limit = head_of(loaded), loaded.window or UNBOUNDED
        is_classifier = bool(classes)
        logs: Sequence[Floats]  # per row [k] log-probabilities, nan where there are none
        if is_classifier:
            from pilotfish.engine.classify import classify

            logs = list(classify(loaded, examples, max_length=limit).log_probs)
        else:
            from pilotfish.engine.likelihood import choice_nll

            classes = tuple(sorted({example.response for example in examples}))
            candidates = [classes] * len(examples)
            logs = [
                -one.total for one in choice_nll(loaded, examples, candidates, max_length=limit)
            ]
        items = []
        for example, row in zip(examples, logs, strict=True):
            if not np.isfinite(row).all():
                items.append(Item(example.id, self.name, None, None, example.response))
                continue
            best = int(np.argmax(row))  # the first of equals
            value = float(classes[best] == example.response)
            confidence = min(float(np.exp(row[best])), 1.0) if is_classifier else None
            items.append(
                Item(example.id, self.name, value, classes[best], example.response, confidence)
            )
        return items


def head_of(loaded: "Loaded") -> tuple[str, ...]:
    """Return a classifier's classes in the order of its head; () for a language model."""
    if not type(loaded.model).__name__.endswith("ForSequenceClassification"):
        return ()
    labels = loaded.model.config.id2label
    return tuple(str(labels[at]) for at in sorted(labels))
