"""Pools of a few examples without reading a file, for rooms that only look at shards."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pilotfish.records import Example, Turn


def asked(name: str, prompt: str, response: str) -> Example:
    """An instruction row."""
    return Example(name, "s", 0, turns=(Turn("user", prompt), Turn("assistant", response)))


class ListPool:
    """What the engine asks of a pool, over lists in memory."""

    def __init__(self, *shards: Sequence[Example], fingerprint: str = "f") -> None:
        self._shards = [list(shard) for shard in shards]
        self.fingerprint = fingerprint
        self.read: list[int] = []

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    @property
    def shards(self) -> int:
        return len(self._shards)

    def bounds(self, i: int) -> tuple[int, int]:
        start = sum(map(len, self._shards[:i]))
        return start, start + len(self._shards[i])

    def shard(self, i: int) -> list[Example]:
        self.read.append(i)
        return self._shards[i]

    def columns(self, *names: str) -> dict[str, Any]:
        rows = [row for shard in self._shards for row in shard]
        return {name: np.array([getattr(row, name) for row in rows], object) for name in names}

    def table(self, i: int, *names: str) -> Any:
        return pa.table({name: [getattr(row, name) for row in self._shards[i]] for name in names})
