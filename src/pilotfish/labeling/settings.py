"""What all steps of a labelling share; classes and answer length as decided from the data."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import TYPE_CHECKING

from pilotfish.config import LabelConfig, Recipe
from pilotfish.data import Pool
from pilotfish.errors import UsageError
from pilotfish.records import Example
from pilotfish.run_context import RunContext

if TYPE_CHECKING:
    from pilotfish.models import Loaded

LONGEST_ANSWER = 256  # tokens the weak model may spend on one answer
MAX_CLASSES = 100  # more distinct labels than this are not classes
MAX_ANSWER_CLASSES = 20  # nor are more distinct answers to prompts than this
_SAMPLE = 2000  # answers whose length is measured
_SPARE = 4  # tokens beyond the 99th percentile of the data's own answers


@dataclass(frozen=True)
class LabelTask:
    """The rows to label and how, as all steps of one labelling see them.

    Attributes:
        context: The run, its progress and force.
        pool: The rows.
        keys: Overlap key of each row [n]; rows with the same prompt have the same key.
        trusted: Trusted rows; none has the prompt of a test row.
        recipe: Names the weak model, and holds the `weak_train:` and `train:` settings.
        config: How rows are labelled, with classes and max_new_tokens resolved.
    """

    context: RunContext
    pool: Pool
    keys: Sequence[str]
    trusted: Sequence[Example]
    recipe: Recipe
    config: LabelConfig

    @property
    def classes(self) -> tuple[str, ...]:
        """The possible answers, () for free answers."""
        return tuple(self.config.classes or ())

    def uses_head(self, model: str) -> bool:
        """Return whether a model answers by a classification head.

        Without the setting `head`: yes for models that have one, and for those whose architecture
        writes no text.
        """
        from pilotfish.models import config_of, is_classifier

        if self.config.head is not None:
            return self.config.head
        architectures = getattr(config_of(model), "architectures", None) or ["CausalLM"]
        writes = any("CausalLM" in each or "LMHead" in each for each in architectures)
        return is_classifier(model) or not writes


def resolve_config(
    config: LabelConfig,
    weak: Callable[[], "Loaded"],
    labels: Sequence[str | None],
    answers: Callable[[], Iterable[str]],
) -> LabelConfig:
    """Return the settings with `classes` and `max_new_tokens` decided.

    The rows' own labels and answers decide names and lengths only; the model never sees them.

    Args:
        config: The settings as given.
        weak: Loads the weak model; called only where free answers need a length.
        labels: The rows' own labels [n], None where a row has none.
        answers: Yields the rows' own answers to prompts.

    Raises:
        UsageError: Soft labels are wanted, and the rows' own answers are not classes.
    """
    classes, room = config.classes, config.max_new_tokens
    if classes is None or (config.kind == "soft" and not classes):
        classes = [] if config.kind == "consistency" else _classes_of(config, labels, answers)
    if room is None and not classes:
        own = [label for label in labels if label]
        room = room_for(own or answers(), weak())
    return config.model_copy(update={"classes": classes, "max_new_tokens": room})


def _classes_of(
    config: LabelConfig, labels: Sequence[str | None], answers: Callable[[], Iterable[str]]
) -> list[str]:
    """Return the distinct labels; for soft labels else the distinct answers, where few; else []."""
    named = sorted({label for label in labels if label})
    if labels and all(labels) and 2 <= len(named) <= MAX_CLASSES:
        return named
    if config.kind == "hard":
        return []
    given = sorted({answer.strip() for answer in answers()} - {""})
    if not named and 2 <= len(given) <= MAX_ANSWER_CLASSES:
        return given
    raise UsageError(
        f"soft labels are probabilities of classes, and the rows have {len(named or given):,} "
        "distinct answers of their own",
        hint="name the classes with --classes a,b, or take --kind hard or consistency",
    )


def room_for(answers: Iterable[str], weak: "Loaded") -> int:
    """Return the most tokens that a free answer may take.

    The 99th percentile of the lengths of at most 2,000 answers, and a few tokens more; at most
    LONGEST_ANSWER and half of the model's window.

    Args:
        answers: The data's own answers. The sample is chosen by a hash of the text, so the order
            of rows does not matter.
        weak: The model that writes, whose tokenizer counts.
    """
    some = nsmallest(_SAMPLE, (text for text in answers if text), key=_text_hash)
    lengths = token_lengths(some, weak)
    longest = lengths[int(0.99 * (len(lengths) - 1))] + _SPARE if lengths else LONGEST_ANSWER
    return min(longest, LONGEST_ANSWER, max(1, (weak.window or 2 * LONGEST_ANSWER) // 2))


def token_lengths(texts: Sequence[str], weak: "Loaded") -> list[int]:
    """Return the number of tokens of each text, in ascending order."""
    if not texts:
        return []
    found = weak.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return sorted(len(ids) for ids in found)


def _text_hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
