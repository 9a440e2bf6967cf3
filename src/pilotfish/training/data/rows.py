"""The rows of an arm, tokenized once; rows without a supervised token are counted and left out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pilotfish.data_order import row_name, shuffled
from pilotfish.errors import DataError, UsageError
from pilotfish.models import Loaded
from pilotfish.records import Example
from pilotfish.tokenization import Encoded, encode_training
from pilotfish.training.data.collate import supervised
from pilotfish.training.teacher.outputs import TeacherOutputs

T = TypeVar("T")


@dataclass(frozen=True)
class TokenizedRows:
    """Rows to learn. All lists have one entry per usable row."""

    encoded: list[Encoded]
    names: list[str]  # id and content, which decide the data order
    tokens: list[int]  # number of supervised tokens, t
    unsupervised: int = 0  # rows left out
    weights: list[NDArray[np.floating]] | None = (
        None  # [t] each: the weight of every supervised token
    )
    trusted: list[bool] | None = None  # whether a person confirmed the row
    sources: list[str] | None = None  # pool, gold or replay
    teacher_outputs: list[TeacherOutputs] | None = None  # of a stored teacher

    def __len__(self) -> int:
        return len(self.encoded)

    @property
    def mass(self) -> list[float]:
        """Weight of each row in the mean of the loss: the sum over its supervised tokens."""
        if self.weights is None:
            return [float(count) for count in self.tokens]
        return [float(each.sum()) for each in self.weights]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row, prompt included."""
        return [len(row.ids) for row in self.encoded]

    @property
    def truncated(self) -> int:
        """Number of usable rows that were cut."""
        return sum(row.truncated for row in self.encoded)

    def take(self, positions: Sequence[int]) -> "TokenizedRows":
        """Return some of the rows, in the order given."""

        def some(values: list[T] | None) -> list[T] | None:
            return None if values is None else [values[i] for i in positions]

        return TokenizedRows(
            [self.encoded[i] for i in positions],
            [self.names[i] for i in positions],
            [self.tokens[i] for i in positions],
            weights=some(self.weights),
            trusted=some(self.trusted),
            sources=some(self.sources),
            teacher_outputs=some(self.teacher_outputs),
        )


def encode_rows(examples: Sequence[Example], loaded: Loaded, max_length: int) -> TokenizedRows:
    """Tokenize examples for training.

    Args:
        examples: Rows with turns.
        loaded: The model whose tokenizer and template are used.
        max_length: Tokens beyond it are cut.

    Raises:
        DataError: No row has a supervised token; the message lists the reasons.
    """
    encoded = encode_training(examples, loaded.tokenizer, max_length)
    usable = [i for i, row in enumerate(encoded) if not row.reason and supervised(row)]
    if not usable:
        counts = Counter(row.reason or "no supervised token" for row in encoded)
        reasons = "; ".join(f"{reason} ({times})" for reason, times in counts.most_common(3))
        raise DataError(
            f"none of the {len(encoded)} rows has a token to learn from: {reasons or 'no rows'}",
            hint="look at one row with `pilotfish inspect`, or raise train.max_length",
        )
    return TokenizedRows(
        [encoded[i] for i in usable],
        [row_name(examples[i]) for i in usable],
        [supervised(encoded[i]) for i in usable],
        len(encoded) - len(usable),
    )


def with_teacher_outputs(
    rows: TokenizedRows, stored: Mapping[str, TeacherOutputs]
) -> TokenizedRows:
    """Attach the outputs of a stored teacher to rows.

    Args:
        rows: Rows to learn.
        stored: Outputs by row name, see `TokenizedRows.names`.

    Raises:
        UsageError: A row has no outputs, or they were captured on other tokens than are learnt
            now. Outputs are never shifted to fit.
    """
    found = [stored.get(name) for name in rows.names]
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        raise UsageError(
            f"the stored teacher has no outputs for {len(found) - len(known):,} of the "
            f"{len(found):,} rows",
            hint="capture it again for these rows, or train with --set train.teacher=online",
        )
    other = sum(
        one.digest not in (None, row.digest) or len(one) != count
        for one, row, count in zip(known, rows.encoded, rows.tokens, strict=True)
    )
    if other:
        raise UsageError(
            f"{other:,} of {len(found):,} rows are other tokens now than the stored teacher read: "
            "another chat template, tokenizer or max_length",
            hint="capture it again with the settings of this training, or train with "
            "--set train.teacher=online",
        )
    return replace(rows, teacher_outputs=known)


def split_fifth(rows: TokenizedRows, *, seed: int) -> tuple[TokenizedRows, TokenizedRows]:
    """Split rows into four fifths and one fifth by hash of their content; each has a row or more.

    Raises DataError below two rows.
    """
    if len(rows) < 2:
        raise DataError(
            "tuning needs at least 2 usable trusted rows, to learn from some and judge on others",
            hint="give more rows to --trusted",
        )
    rows = rows.take(sorted(range(len(rows)), key=rows.names.__getitem__))  # settles ties
    contents = [name.split("\0", 1)[1] for name in rows.names]
    order = shuffled(contents, seed=seed, epoch=-1)
    held_out = max(1, len(rows) // 5)
    return rows.take(order[held_out:]), rows.take(order[:held_out])
