"""R5, byte by byte: files of every kind mutated at random are read, or refused in words."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pilotfish.errors import PilotfishError
from tests.data.test_sources import KINDS, TALKS
from tests.figures import Reached, size
from tests.reading import read_rows

pytestmark = pytest.mark.torture

INTERESTING = (
    b"\x00", b"\xff", b"\xc3\x28", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\n", b"\r", b'"', b"\\",
    b"{", b"}", b"[", b"]", b",", b":", b"NaN", b"1e999", b"-Infinity", b"\\ud800", b"\\u0000",
    b'"output": ', b"99999999999999999999", b"[" * 200, b"{" * 200, b"\x1b[31m", b"=cmd()",
)  # fmt: skip

Mutation = Callable[[bytearray, random.Random], None]


def flip(data: bytearray, draw: random.Random) -> None:
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def cut(data: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(data))
    del data[start : start + draw.choice((1, 3, 40, len(data)))]


def insert(data: bytearray, draw: random.Random) -> None:
    at = draw.randrange(len(data) + 1)
    data[at:at] = draw.choice(INTERESTING)


def repeat(data: bytearray, draw: random.Random) -> None:
    start, length = draw.randrange(len(data)), draw.choice((1, 8, 200))
    data[start:start] = data[start : start + length]


def splice(data: bytearray, draw: random.Random) -> None:
    one, other = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    data[:] = data[other:] + data[one:other] + data[:one]


def overwrite(data: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(data))
    length = min(draw.choice((1, 4, 8)), len(data) - start)
    data[start : start + length] = draw.randbytes(length)


MUTATIONS: tuple[Mutation, ...] = (flip, cut, insert, repeat, splice, overwrite)


def mutated(whole: bytes, draw: random.Random) -> bytes:
    """A file after one to four mutations."""
    data = bytearray(whole)
    for _ in range(draw.randint(1, 4)):
        if data:
            draw.choice(MUTATIONS)(data, draw)
    return bytes(data)


def outcome(path: Path) -> str:
    """read, or the exit code it is refused with; whatever else comes out is a fault."""
    try:
        found = read_rows(path, max_bad_rate=1)
    except PilotfishError as error:
        assert error.exit_code in (2, 3) and len(str(error)) < 2000
        return f"exit {error.exit_code}"
    origins = [(example.source, example.row) for example in found.examples]
    assert len(set(origins)) == len(origins)
    assert found.rows_in == len(origins) + sum(found.quarantined.values())
    assert len({example.id for example in found.examples}) == len(origins)
    return "read"


def test_mutated_files_are_read_or_refused_in_words(tmp_path: Path, reached: Reached) -> None:
    kinds = {name: make(TALKS * 3) for name, make in KINDS.items()}
    count, found = size(600, 10_000), Counter[str]()
    for number in range(count):
        name = list(kinds)[number % len(kinds)]
        path = tmp_path / name
        path.write_bytes(mutated(kinds[name], random.Random(number)))
        try:
            found[outcome(path)] += 1
        except Exception as error:
            raise AssertionError(f"case {number} ({name}): {error!r}") from error
    assert found["read"] > count / 10
    told = ", ".join(f"{what} {times:,}" for what, times in sorted(found.items()))
    reached("R5", f"{count:,} mutated files of {len(kinds)} kinds: 0 uncaught ({told})")
