"""Texts as sets of hashed word shingles, for many texts at once.

A word is a run of letters, digits and marks of the lower-cased text; in scripts without spaces
every letter is a word. A shingle is w consecutive words; a shorter text has one shingle of all its
words.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pilotfish.records import Ints

Hashes = NDArray[np.uint64]

_CHARACTERS = 4 << 20  # hashed at a time
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
_MIX = np.uint64(0xBF58476D1CE4E5B9)  # splitmix64
_NO_WORD = np.uint64(0x94D049BB133111EB)  # pads a text that is shorter than a shingle
_LETTER, _ALONE = 1, 2
_WITHOUT_SPACES = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF)),  # Thai, Lao, Burmese, Khmer
    *((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF)),  # kana, Han
    *((0xF900, 0xFAFF), (0x20000, 0x323AF)),  # more Han
)


def shingles(texts: Iterable[str], words: int) -> Iterator[tuple[int, Hashes, Ints]]:
    """Hash the shingles of texts, a batch of texts at a time.

    Args:
        texts: The texts.
        words: Words per shingle.

    Yields:
        (first, hashes [t], offsets [b + 1]) for b texts: the hashes of text first + i are
        hashes[offsets[i]:offsets[i + 1]], none if it has no word.
    """
    batch: list[str] = []
    first = size = 0
    for number, text in enumerate(texts):
        batch.append(text.lower())
        size += len(text)
        if size >= _CHARACTERS:
            yield first, *_shingles(batch, words)
            batch, first, size = [], number + 1, 0
    if batch:
        yield first, *_shingles(batch, words)


def _shingles(texts: list[str], words: int) -> tuple[Hashes, Ints]:
    hashes, offsets = _words(texts)
    count = np.diff(offsets)
    many = np.where(count < words, np.minimum(count, 1), count - words + 1)  # [b] shingles
    ends = np.repeat(offsets[1:], many)
    out = np.concatenate([[0], np.cumsum(many)])
    at = np.arange(out[-1]) + np.repeat(offsets[:-1] - out[:-1], many)  # first word of each
    total = np.zeros(len(at), dtype=np.uint64)
    for _ in range(words):
        inside = hashes[np.minimum(at, len(hashes) - 1)] if len(hashes) else hashes
        total = _mixed(total * _ODD + np.where(at < ends, inside, _NO_WORD))
        at = at + 1
    return total, out


def _words(texts: list[str]) -> tuple[Hashes, Ints]:
    """Hashes of all words, and [b + 1] the position of the first word of each text."""
    joined = "\n".join(texts)
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    kind = _kinds()[codes]
    before = np.concatenate([[0], kind[:-1]])
    begins = (kind == _ALONE) | ((kind == _LETTER) & (before != _LETTER))
    edges = np.cumsum([0, *(len(text) + 1 for text in texts)])
    offsets = np.searchsorted(np.flatnonzero(begins), edges)
    used = kind > 0
    starts = np.flatnonzero(begins[used])  # of each word among the letters
    letters = codes[used]
    if not len(starts):
        return np.empty(0, dtype=np.uint64), offsets
    lengths = np.diff(starts, append=len(letters))
    place = np.arange(len(letters)) - np.repeat(starts, lengths)
    power = np.cumprod(np.full(int(lengths.max()), _ODD), dtype=np.uint64)
    return _mixed(np.add.reduceat(_mixed(letters * _ODD) * power[place], starts)), offsets


def _mixed(hashes: Hashes) -> Hashes:
    """Mix the bits, as splitmix64 does: each input bit changes about half of the output bits."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * _MIX
    return hashes ^ (hashes >> np.uint64(27))


@lru_cache(maxsize=1)
def _kinds() -> NDArray[np.uint8]:
    """[code points] 0 between words, else `_LETTER` or `_ALONE`."""
    category = unicodedata.category
    kinds = np.array([category(chr(code))[0] in "LNM" for code in range(0x110000)], dtype=np.uint8)
    for first, last in _WITHOUT_SPACES:
        kinds[first : last + 1] *= _ALONE
    return kinds
