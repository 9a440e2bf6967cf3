"""Figures that tests of promises reach: kept when asked for, shown by docs/promises.md.

A test of a promise is marked `torture`, asks `size` how far to go, and tells `reached` what it saw.
`make test` goes a short way; `make torture` sets PILOTFISH_TORTURE to a file and goes all of it.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

VARIABLE = "PILOTFISH_TORTURE"
Reached = Callable[[str, str], None]
_Size = TypeVar("_Size")
PASSED = pytest.StashKey[bool]()


def size(short: _Size, full: _Size) -> _Size:
    """How far a sweep goes: `short` in the default tests, `full` under `make torture`."""
    return full if VARIABLE in os.environ else short


@pytest.fixture
def reached(request: pytest.FixtureRequest) -> Iterator[Reached]:
    """Tell which promise ("R9") a test shows, and the figure it reached; kept if it passes."""
    told: list[tuple[str, str]] = []
    begun = time.monotonic()
    yield lambda promise, figure: told.append((promise, figure))
    if VARIABLE in os.environ and request.node.stash.get(PASSED, False):
        lines = (
            {"promise": promise, "figure": figure, "test": request.node.nodeid,
             "seconds": round(time.monotonic() - begun, 1)}
            for promise, figure in told
        )  # fmt: skip
        # one write call: two workers append to the same file
        with Path(os.environ[VARIABLE]).open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
