"""A store under its lock, and files of rows."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pilotfish.store import Store, run_lock


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with run_lock(tmp_path / "run") as held:
        yield held


def rows(n: int, **extra: Any) -> list[dict[str, Any]]:
    return [{"instruction": f"say {i}", "input": "", "output": f"{i}!", **extra} for i in range(n)]


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Write records (or ready lines of bytes) as a jsonl file."""

    def write(records: Sequence[Any], name: str = "data.jsonl") -> Path:
        lines = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in records]
        path = tmp_path / name
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return path

    return write
