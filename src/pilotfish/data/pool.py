"""A Pool: ordered examples on disk as canonical shards, verified before they are used."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pilotfish.data.shards import SCHEMA, read_column, read_rows_of, read_table
from pilotfish.errors import DamagedRun
from pilotfish.records import Example
from pilotfish.store import Store

MANIFEST = "pool/manifest.json"
Item = TypeVar("Item")


class Pool:
    """The rows of a run, in order; positions are 0-based over all shards.

    A shard's digest is checked when it is first touched, so a worker reads only what it needs.
    """

    def __init__(self, store: Store, manifest: dict[str, Any]) -> None:
        self.store = store
        self.manifest = manifest
        self._starts = np.cumsum([0, *(shard["rows"] for shard in manifest["shards"])])
        self._verified: set[int] = set()

    @classmethod
    def open(cls, store: Store) -> "Pool":
        """The pool of a run; DamagedRun when there is none or its manifest is not intact."""
        return cls(store, store.require(MANIFEST))

    def __len__(self) -> int:
        return int(self.manifest["rows"])

    @property
    def fingerprint(self) -> str:
        """sha256 over ordered ids and content digests."""
        return str(self.manifest["fingerprint"])

    @property
    def schema(self) -> str:
        """Name of the format the rows came in."""
        return str(self.manifest["schema"])

    @property
    def warnings(self) -> list[str]:
        """What a person should know about how the data was read."""
        return list(self.manifest["warnings"])

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return len(self.manifest["shards"])

    def bounds(self, i: int) -> tuple[int, int]:
        """Positions [start, stop) of shard i in the pool."""
        return int(self._starts[i]), int(self._starts[i + 1])

    @property
    def sizes(self) -> list[int]:
        """Rows of every shard."""
        return [int(shard["rows"]) for shard in self.manifest["shards"]]

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Positions [start, stop) of every shard."""
        return [self.bounds(i) for i in range(self.shards)]

    def shard(self, i: int) -> list[Example]:
        """The examples of one shard, in order."""
        return read_rows_of(self._path(i))

    def examples(self) -> Iterator[Example]:
        """Every example in order, one shard in memory at a time."""
        for i in range(self.shards):
            yield from self.shard(i)

    def table(self, i: int, *names: str) -> pa.Table:
        """Columns of shard i as they lie on disk, without reading the others.

        names: any column of a shard but `turns`.
        """
        _check_plain(names)
        return read_table(self._path(i), names)

    def columns(self, *names: str) -> dict[str, NDArray[Any]]:
        """Whole columns, [n] each, without reading the others: int64 for `row`, else text objects.

        names: any column of a shard but `turns`.
        """
        _check_plain(names)
        paths = [self._path(i) for i in range(self.shards)]
        return {name: np.concatenate([read_column(p, name) for p in paths]) for name in names}

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> list[Example]:
        """The examples at some positions, in the order given."""
        return self._gather(indices, read_rows_of)

    def raw(self, indices: Sequence[int] | NDArray[np.int64]) -> list[str]:
        """The records at some positions as they came, one line each, in the order given."""

        def lines(path: Path, rows: Sequence[int]) -> list[str]:
            return [str(line) for line in read_column(path, "raw")[list(rows)]]

        return self._gather(indices, lines)

    def _gather(
        self,
        indices: Sequence[int] | NDArray[np.int64],
        read: Callable[[Path, Sequence[int]], list[Item]],
    ) -> list[Item]:
        """Read each shard at most once, then restore the order asked for."""
        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"positions must lie in [0, {len(self)})")
        home = np.searchsorted(self._starts, wanted, side="right") - 1
        found: dict[int, Item] = {}
        for i in np.unique(home):
            places = np.flatnonzero(home == i)
            rows = (wanted[places] - self._starts[i]).tolist()
            found.update(zip(places.tolist(), read(self._path(int(i)), rows), strict=True))
        return [found[place] for place in range(wanted.size)]

    def _path(self, i: int) -> Path:
        """The parquet file of shard i, its digest checked once."""
        shard = self.manifest["shards"][i]
        if i not in self._verified:
            found = self.store.require(shard["manifest"])
            if found["files"].get(shard["file"], {}).get("sha256") != shard["sha256"]:
                raise DamagedRun(
                    f"{shard['file']} is not the shard that {MANIFEST} lists",
                    hint="read the data again",
                )
            self._verified.add(i)
        return self.store.path(shard["file"])


def _check_plain(names: Sequence[str]) -> None:
    for name in names:
        if name not in SCHEMA.names or name == "turns":
            raise KeyError(f"'{name}' is no plain column of a shard: {SCHEMA.names}")
