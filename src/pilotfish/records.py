"""The records that all rooms exchange: frozen, without torch and without I/O.

Axis letters of the package: n examples, t tokens, d features, b batch, k classes or budget rows
(stated where used), s steps.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Texts = NDArray[np.object_]  # [n] str; "" stands for "no reason"
Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One message: a role and its content, white space unchanged."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a dataset in canonical form.

    Exactly one of three shapes: `turns` (instruction data; a response is an assistant turn), `text`
    with `label` (classification), or `text` alone (plain text, all of it the response).
    """

    id: str  # unique in its pool
    source: str  # path relative to DATA
    row: int  # 0-based number of the record in its source
    turns: tuple[Turn, ...] = ()
    text: str | None = None
    label: str | None = None  # the class of the text
    # the columns that the format does not use
    meta: Mapping[str, Any] = field(default_factory=dict)
    raw: str = ""  # the record as it came, one line of JSON

    @property
    def digest(self) -> str:
        """Content hash (meta included), the same whatever the file, order or row number."""
        return content_digest(self.turns, self.text, self.label, self.meta)

    @property
    def prompt(self) -> tuple[Turn, ...]:
        """Every turn before the last assistant turn (all turns where there is none)."""
        return self.turns[:-1] if self.turns and self.turns[-1].role == "assistant" else self.turns

    @property
    def response(self) -> str:
        """The text to learn: the last assistant turn, the label, or the plain text."""
        if self.turns:
            last = self.turns[-1]
            return last.content if last.role == "assistant" else ""
        return self.label if self.label is not None else (self.text or "")


def content_digest(
    turns: Sequence[Turn], text: str | None, label: str | None, meta: Mapping[str, Any]
) -> str:
    """Return 32 hex digits over the canonical JSON of a row's content; see `Example`."""
    canonical = {
        "turns": [[turn.role, turn.content] for turn in turns],
        "text": text,
        "label": label,
        "meta": meta,
    }
    payload = json.dumps(canonical, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(payload.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Need:
    """One measurement that a ranker needs for every row."""

    signal: str  # a name in the table of signals ("nll")
    # the text form ("template": chat template or the plain one; "superfiltering")
    text: str = "template"
    given: Literal["prompt", "nothing"] = "prompt"  # condition of the response
    # which tokens are scored: the response, the full text, or those that training supervises, which
    # are every reply with its end marker
    span: Literal["response", "full", "supervised"] = "response"
    # score only tokens that can be scored with the prompt and without it. Without a start token
    # that leaves out the first response token; an unaligned need keeps it.
    aligned: bool = True
    end: bool = False  # also score the token that ends the response, where the template writes one
    size: int = 0  # the k of the signal, where it has one ("topk")
    seed: int = 0  # the seed of a signal that draws

    @property
    def name(self) -> str:
        """A file-safe name, also the key of the measurement: `nll.template.prompt.response`."""
        more = ("" if self.aligned else ".every") + (".end" if self.end else "")
        more += f".seed{self.seed}" if self.seed else ""
        return f"{self.signal}{self.size or ''}.{self.text}.{self.given}.{self.span}{more}"

    @property
    def pools(self) -> bool:
        """Whether hidden states are pooled (every token has one), not tokens predicted."""
        return self.signal == "hidden"


@dataclass(frozen=True)
class Ragged:
    """Values of varying number per row: those of row i are flat[offsets[i]:offsets[i + 1]]."""

    flat: NDArray[Any]
    offsets: Ints  # [n + 1]

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.flat[self.offsets[row] : self.offsets[row + 1]]

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True)
class Measured:
    """One Need, measured. A row with a reason holds nan in `total` and must not be used."""

    # [n] summed over the counted tokens: nats for `nll`, `token_nll`, `topk` and `entropy`, hits
    # for `top1`, the length of the pooled state for `hidden`
    total: Floats
    count: Ints  # [n] tokens
    reason: Texts  # [n] "" where measured, else why not
    # more than one number per row, by name: [n, d] arrays (nan where unmeasured) or Ragged (empty
    # where unmeasured)
    values: Mapping[str, "NDArray[Any] | Ragged"] = field(default_factory=dict)

    @property
    def mean(self) -> Floats:
        """[n] total per token, nan where not measured."""
        safe = np.where(self.count > 0, self.count, 1)
        return np.where((self.count > 0) & (self.reason == ""), self.total / safe, np.nan)


@dataclass(frozen=True)
class RowFeatures:
    """The measurements that rankers use, one entry per row of the pool, in pool order."""

    ids: Texts  # [n]
    n_prompt_tokens: Ints  # [n] after truncation, weak tokenizer
    n_response_tokens: Ints  # [n]
    measured: Mapping[Need, Measured] = field(default_factory=dict)

    def __getitem__(self, need: Need) -> Measured:
        return self.measured[need]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether one row was kept, and why."""

    id: str
    source: str
    row: int
    kept: bool
    rank: int | None  # 0-based pick order, None when dropped
    reason: str
    score: float | None
    gain: float | None = None
    nearest_kept_id: str | None = None


@dataclass(frozen=True)
class Selection:
    """The kept rows in pick order. The reasons of all rows are read on first use."""

    name: str
    order: Ints  # [k] pool indices, best first
    provenance: Mapping[str, Any]
    decisions: Callable[[], tuple[Texts, Floats]]  # of every row: `reason` and `score`

    @cached_property
    def reason(self) -> Texts:
        """[n] why each row was kept or dropped."""
        return self.decisions()[0]

    @cached_property
    def score(self) -> Floats:
        """[n] raw values in published orientation, nan when unscorable."""
        return self.decisions()[1]

    def __len__(self) -> int:
        return len(self.order)


SKIPPED = "cascade_skipped"  # why a row that was not passed on has no score
Mask = NDArray[np.bool_]  # [n]
NOT_ELIGIBLE = "not_eligible"
