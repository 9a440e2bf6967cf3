"""The rows of an arm, tokenised once; rows without a supervised token are left out and counted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from pilotfish.data_order import row_name, shuffled
from pilotfish.errors import DataError, UsageError
from pilotfish.models import Loaded
from pilotfish.records import Example, Floats
from pilotfish.tokenization import Encoded, encode_training
from pilotfish.training.data.collate import supervised
from pilotfish.training.teacher.outputs import TeacherOutputs


@dataclass(frozen=True)
class TokenizedRows:
    """What there is to learn from. All lists have one entry per usable row."""

    encoded: list[Encoded]
    names: list[str]  # id and content: what the data order hangs on
    tokens: list[int]  # supervised tokens
    unsupervised: int = 0  # rows left out
    weights: list[Floats] | None = None  # [tokens] each: what every supervised token counts
    gold: list[bool] | None = None  # whether a person vouches for the row
    sources: list[str] | None = None  # pool, gold or replay: where the row comes from
    taught: list[TeacherOutputs] | None = (
        None  # what a stored teacher says at its supervised tokens
    )

    def __len__(self) -> int:
        return len(self.encoded)

    @property
    def mass(self) -> list[float]:
        """What each row weighs in the mean that a loss is: its supervised tokens, as weighted."""
        if self.weights is None:
            return [float(count) for count in self.tokens]
        return [float(each.sum()) for each in self.weights]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row, prompt included."""
        return [len(row.ids) for row in self.encoded]

    @property
    def truncated(self) -> int:
        """Usable rows that were cut."""
        return sum(row.truncated for row in self.encoded)

    def take(self, positions: Sequence[int]) -> "TokenizedRows":
        """Some of the rows, in the order given."""
        return TokenizedRows(
            [self.encoded[i] for i in positions],
            [self.names[i] for i in positions],
            [self.tokens[i] for i in positions],
            weights=_some(self.weights, positions),
            gold=_some(self.gold, positions),
            sources=_some(self.sources, positions),
            taught=_some(self.taught, positions),
        )


T = TypeVar("T")


def _some(values: list[T] | None, positions: Sequence[int]) -> list[T] | None:
    return None if values is None else [values[i] for i in positions]


def encode_rows(examples: Sequence[Example], loaded: Loaded, max_length: int) -> TokenizedRows:
    """Tokenise for training. DataError, with the reasons, when no row has a supervised token."""
    encoded = encode_training(examples, loaded.tokenizer, max_length)
    usable = [i for i, row in enumerate(encoded) if not row.reason and supervised(row)]
    if not usable:
        reasons = Counter(row.reason or "no supervised token" for row in encoded)
        told = "; ".join(f"{reason} ({times})" for reason, times in reasons.most_common(3))
        raise DataError(
            f"none of the {len(encoded)} rows has a token to learn from: {told or 'no rows'}",
            hint="look at one row with `pilotfish inspect`, or raise train.max_length",
        )
    return TokenizedRows(
        [encoded[i] for i in usable],
        [row_name(examples[i]) for i in usable],
        [supervised(encoded[i]) for i in usable],
        len(encoded) - len(usable),
    )


def with_teacher_outputs(
    rows: TokenizedRows, taught: Mapping[str, TeacherOutputs]
) -> TokenizedRows:
    """The rows with what a stored teacher says of each; `taught` is keyed by `Rows.names`.

    UsageError where a row has none, or it was captured on other tokens than are learnt now: it is
    never shifted to fit.
    """
    found = [taught.get(name) for name in rows.names]
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        raise UsageError(
            f"the stored teacher says nothing of {len(found) - len(known):,} of the {len(found):,} "
            "rows",
            hint="capture it anew for these rows, or train with --set train.teacher=online",
        )
    other = sum(
        one.read not in (None, row.digest) or len(one) != count
        for one, row, count in zip(known, rows.encoded, rows.tokens, strict=True)
    )
    if other:
        raise UsageError(
            f"{other:,} of {len(found):,} rows are other tokens now than the stored teacher read: "
            "another chat template, tokenizer or max_length",
            hint="capture it anew with the settings of this training, or train with "
            "--set train.teacher=online",
        )
    return replace(rows, taught=known)


def split_fifth(rows: TokenizedRows, *, seed: int) -> tuple[TokenizedRows, TokenizedRows]:
    """(four fifths, one fifth) by hash of the content; at least one row on each side.

    DataError below two rows.
    """
    if len(rows) < 2:
        raise DataError(
            "tuning needs at least 2 usable trusted rows, to learn from some and judge on others",
            hint="give more rows to --trusted",
        )
    rows = rows.take(sorted(range(len(rows)), key=rows.names.__getitem__))  # settles ties
    contents = [name.split("\0", 1)[1] for name in rows.names]
    order = shuffled(contents, seed=seed, epoch=-1)
    held = max(1, len(rows) // 5)
    return rows.take(order[held:]), rows.take(order[:held])
