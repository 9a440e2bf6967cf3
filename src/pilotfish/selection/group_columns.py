"""The groups that quotas are for: each row's value in one column of the records as they came."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pilotfish.data import Pool
from pilotfish.errors import UsageError
from pilotfish.records import Ints

SOURCE = "source"
MISSING = "(none)"  # the group of the rows without a value
MOST = 1_000  # groups that a selection can name in run.json


@dataclass(frozen=True, eq=False)
class Groups:
    """Every row's group. Names are sorted, so that no number depends on the order of the rows."""

    column: str
    names: tuple[str, ...]  # [g]
    codes: Ints  # [n] in [0, g)

    @property
    def sizes(self) -> Ints:
        """[g] rows of the pool in each group."""
        return np.bincount(self.codes, minlength=len(self.names)).astype(np.int64)


def groups_of(pool: Pool, column: str) -> Groups:
    """Group the rows of a pool by `source`, the file they came in, or by a column of theirs.

    UsageError for a column that no row has, and one of more than `MOST` different values.
    """
    number: dict[str, int] = {}
    seen, codes = set[str](), list[Ints]()
    for values in _values(pool, column, seen):
        codes.append(np.array([number.setdefault(v, len(number)) for v in values], dtype=np.int64))
        if len(number) > MOST:
            raise UsageError(
                f"the column '{column}' has more than {MOST:,} different values",
                hint="quotas are for columns that name groups, such as a topic or a source",
            )
    if set(number) <= {MISSING}:
        raise UsageError(
            f"no row has a value in a column '{column}'",
            hint="the rows have: " + ", ".join(sorted({*seen, SOURCE})),
        )
    names = sorted(number)
    place = np.array([names.index(name) for name in number], dtype=np.int64)
    return Groups(column, tuple(names), place[np.concatenate(codes)])


def _values(pool: Pool, column: str, seen: set[str]) -> Iterator[list[str]]:
    """A shard's values at a time; the names of columns met are added to `seen`."""
    for shard in range(pool.shards):
        if column == SOURCE:
            yield pool.table(shard, SOURCE)[SOURCE].to_pylist()
            continue
        records = [json.loads(line) for line in pool.table(shard, "raw")["raw"].to_pylist()]
        for record in records[:1]:
            seen.update(record)
        yield [_named(record.get(column)) for record in records]


def _named(value: object) -> str:
    """A value as the name of a group: texts as they are, all else as JSON."""
    if value is None or value == "":
        return MISSING
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
