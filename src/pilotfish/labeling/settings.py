"""How rows are labelled: the settings of `label`, checked, and what the data decides of them."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from heapq import nsmallest
from typing import TYPE_CHECKING

from pilotfish.config import TrainConfig, WeakTrainConfig
from pilotfish.data import Pool
from pilotfish.errors import UsageError
from pilotfish.labeling.filters import Refill, make_filter
from pilotfish.progress import Progress
from pilotfish.records import Example
from pilotfish.store import Run

if TYPE_CHECKING:
    from pilotfish.models import Loaded

KINDS = ("hard", "soft", "consistency")
LONGEST_ANSWER = 256  # tokens the weak model may spend on one answer
MAX_LENGTH = 1024  # tokens of a row with a candidate answer where nobody says otherwise
MOST_CLASSES = 100  # more distinct labels than this are no classes
FEW_ANSWERS = 20  # nor are more distinct answers to prompts than this
_SAMPLE = 2000  # answers measured to say how long one may get
_NEED_STATES = ("knn", "trust")  # filters that look at the model's hidden states
_SPARE = 4  # tokens beyond all but one in a hundred of the data's own answers


@dataclass(frozen=True)
class LabelConfig:
    """How rows are labelled.

    kind: `hard` (the greedy answer, or the likeliest class), `soft` (probabilities of the classes)
    or `consistency` (the most frequent of sampled answers). classes: the answers to choose from,
    () for free answers, None: whatever the model or the data says. samples, temperature, seed: of
    consistency. abstain: confidence below which a label is set aside. filters: METHOD texts, one
    after the other. folds: parts of a cross-fit, below 2 for none. max_new_tokens: of a free
    answer, None: as long as the data's own, at most 256. max_length: of a row with a candidate
    answer.
    """

    kind: str = "hard"
    classes: tuple[str, ...] | None = None
    samples: int = 8
    temperature: float = 0.7
    abstain: float | None = None
    filters: tuple[str, ...] = ()
    folds: int = 0
    seed: int = 0
    max_new_tokens: int | None = None
    max_length: int = MAX_LENGTH

    def check(self) -> None:
        """UsageError where the settings contradict each other."""
        if self.kind not in KINDS:
            raise UsageError(f"labels are hard, soft or consistency, not '{self.kind}'")
        if self.abstain is not None and not 0 <= self.abstain <= 1:
            raise UsageError(f"--abstain-below is {self.abstain}; confidence lies in [0, 1]")
        if self.folds == 1 or self.folds < 0:
            raise UsageError(
                f"--folds is {self.folds}: the rows a model labels must be other than those it "
                "was tuned on",
                hint="give 2 or more, or leave it out",
            )
        if self.classes and (len(self.classes) < 2 or len({*self.classes}) < len(self.classes)):
            raise UsageError(
                f"--classes needs two or more, all distinct: {', '.join(self.classes)}"
            )
        if self.kind == "consistency" and self.classes:
            raise UsageError(
                "consistency is the share of sampled free answers; of classes the probabilities "
                "are known",
                hint="--kind soft, or leave --classes out",
            )
        for text in self.filters:
            make_filter(text)

    @property
    def wants_states(self) -> bool:
        """Whether a filter looks at hidden states."""
        return any(text.split("(")[0].strip() in _NEED_STATES for text in self.filters)

    @property
    def wants_gold(self) -> bool:
        """Whether a filter learns from rows whose right answer is known."""
        return any(text.split("(")[0].strip() == "trust" for text in self.filters)


def resolve_config(
    how: LabelConfig,
    weak: Callable[[], "Loaded"],
    labels: Sequence[str | None],
    answers: Callable[[], Iterable[str]],
) -> LabelConfig:
    """The same with classes and room for answers decided.

    labels [n]: the rows' own, None where they have none; answers: their own answers to prompts.
    What stands there decides names and lengths only: no row's own answer is shown to the model.
    UsageError where soft labels are wanted of free answers.
    """
    classes = how.classes
    if classes is None:
        classes = () if how.kind == "consistency" else _classes(how, labels, answers)
    room = how.max_new_tokens
    if room is None and not classes:
        own = [label for label in labels if label]
        room = room_for(own or answers(), weak())
    return replace(how, classes=classes, max_new_tokens=room)


def _classes(
    how: LabelConfig, labels: Sequence[str | None], answers: Callable[[], Iterable[str]]
) -> tuple[str, ...]:
    """The distinct labels of the rows; of answers, if few and soft labels need them; else ()."""
    named = sorted({label for label in labels if label})
    if labels and all(labels) and 2 <= len(named) <= MOST_CLASSES:
        return tuple(named)
    if how.kind == "hard":
        return ()
    given = sorted({answer.strip() for answer in answers()} - {""})
    if not named and 2 <= len(given) <= FEW_ANSWERS:
        return tuple(given)
    raise UsageError(
        f"soft labels are probabilities of classes, and the rows have {len(named or given):,} "
        "distinct answers of their own",
        hint="name the classes with --classes a,b, or take --kind hard or consistency",
    )


def room_for(own: Iterable[str], weak: "Loaded") -> int:
    """Tokens an answer may take: what 99 in 100 of `own` do and some more; LONGEST_ANSWER at most.

    Counted on 2,000 of them, chosen by their text, so that the order of rows says nothing.
    """
    some = nsmallest(_SAMPLE, (text for text in own if text), key=_mixed)
    lengths = token_lengths(some, weak)
    longest = lengths[int(0.99 * (len(lengths) - 1))] + _SPARE if lengths else LONGEST_ANSWER
    return min(longest, LONGEST_ANSWER, max(1, (weak.window or 2 * LONGEST_ANSWER) // 2))


def token_lengths(texts: Sequence[str], weak: "Loaded") -> list[int]:
    """Tokens of each text, ascending."""
    if not texts:
        return []
    found = weak.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return sorted(len(ids) for ids in found)


def _mixed(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


@dataclass(frozen=True)
class Models:
    """The models of one labelling.

    weak: labels, after being tuned on the trusted rows (unless not `tuned`: then they only serve
    the filter `trust`). then: each is trained on the labels of the one before, and labels anew.
    refill: trained on the labels kept, and asked which of the others may come back, by `rule`.
    head: whether all of them answer by a classification head; None: those that have one, and
    those that are no causal language models.
    """

    weak: str
    tuned: bool = True
    then: tuple[str, ...] = ()
    refill: str | None = None
    rule: Refill = field(default_factory=Refill)
    tune: WeakTrainConfig = field(default_factory=WeakTrainConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    head: bool | None = None

    def heads(self, model: str) -> bool:
        """Whether one of the models answers by a classification head."""
        from pilotfish.models import config_of, is_classifier

        if self.head is not None:
            return self.head
        made = getattr(config_of(model), "architectures", None) or ["CausalLM"]
        writes = any("CausalLM" in each or "LMHead" in each for each in made)
        return is_classifier(model) or not writes


@dataclass(frozen=True)
class Task:
    """The rows to be labelled and how, as all steps of one labelling see them."""

    run: Run
    pool: Pool
    keys: Sequence[str]  # [n] what each row asks
    trusted: Sequence[Example]
    models: Models
    how: LabelConfig
    progress: Progress
