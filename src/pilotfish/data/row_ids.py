"""Whether the ids that came with the data name its rows, and whose occurrence each content is.

Both are told from digests, 16 bytes a row: sets of strings would take ten times as much.
"""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.records import Ints

DIGEST = np.dtype("S16")  # 16 bytes; all of them count, a trailing zero too: every one is as long
RECENT = 1 << 16  # ids whose text is at hand, to be named when one stands twice

Digests = NDArray[np.bytes_]


class UserIds:
    """The values of the id column, in reading order: usable until one is missing or repeated."""

    def __init__(self) -> None:
        self.usable = True
        self.present = 0  # rows that have one
        self.repeated: str | None = None  # the first to stand twice, where that made them unusable
        self._recent: list[str] = []
        self._older: Digests = np.empty(0, dtype=DIGEST)  # ascending

    def add(self, value: Any) -> str | None:
        """The id that a row brings; None where it brings none."""
        name = id_text(value)
        self.present += name is not None
        if self.usable:
            self._note(name)
        return name

    def settle(self) -> None:
        """Compare what was added since the last time; call it once more at the end."""
        keys = np.array([_digest(name) for name in self._recent], dtype=DIGEST)
        _, first = np.unique(keys, return_index=True)
        again = np.ones(len(keys), dtype=bool)
        again[first] = False
        again |= _among(keys, self._older)
        if again.any():
            self.repeated = self._recent[int(np.argmax(again))]
            self._stop()
        else:
            # two ascending runs: a stable sort merges them in one go
            merged = np.concatenate((self._older, np.sort(keys)))
            self._older = np.sort(merged, kind="stable")
            self._recent = []

    def _note(self, name: str | None) -> None:
        if name is None:
            self.settle()  # a repeated one that stood before this row is the reason, not this row
            self._stop()
            return
        self._recent.append(name)
        if len(self._recent) == RECENT:
            self.settle()

    def _stop(self) -> None:
        self.usable, self._recent, self._older = False, [], np.empty(0, dtype=DIGEST)


def id_text(value: Any) -> str | None:
    """The id a value stands for; None where it can be none."""
    usable = isinstance(value, str | int) and not isinstance(value, bool) and value != ""
    return str(value) if usable else None


def occurrences(digests: Digests) -> Ints:
    """[n] how many rows before each one have its digest: 0 for the first."""
    order = np.argsort(digests, kind="stable")
    ordered = digests[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))[: len(order)]
    sizes = np.diff(starts, append=len(order))
    found = np.empty(len(order), dtype=np.int64)
    found[order] = np.arange(len(order)) - np.repeat(starts, sizes)
    return found


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _among(keys: Digests, ordered: Digests) -> NDArray[np.bool_]:
    """[n] which keys stand in an ascending array."""
    if not len(ordered):
        return np.zeros(len(keys), dtype=bool)
    place = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
    return np.asarray(ordered[place] == keys, dtype=bool)
