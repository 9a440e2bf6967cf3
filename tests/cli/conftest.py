"""Tiny model folders and instruction files for tests of the whole command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilotfish.cli.main import run as run_command

WORDS = ("apple", "river", "stone", "cloud", "tiger", "lemon", "piano", "candle")


@pytest.fixture(scope="session")
def weak(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.tiny.models import tiny_gpt2

    return str(tiny_gpt2(tmp_path_factory.mktemp("weak"), seed=1))


@pytest.fixture(scope="session")
def strong(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.tiny.models import tiny_llama

    return str(tiny_llama(tmp_path_factory.mktemp("strong"), seed=2))


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return str(path)


def pairs(count: int, *, start: int = 0) -> list[dict[str, Any]]:
    """Prompt/completion rows: repeat a word, all prompts distinct."""
    return [
        {
            "prompt": f"say {WORDS[i % 8]} {i}",
            "completion": f"{WORDS[i % 8]} {i % 7}",
            "topic": f"t{i % 3}",
        }
        for i in range(start, start + count)
    ]


def alpaca(count: int) -> list[dict[str, Any]]:
    return [
        {
            "instruction": f"Name {WORDS[i % 8]}",
            "input": "now" * (i % 3),
            "output": f"{WORDS[i % 5]} {i}",
        }
        for i in range(count)
    ]


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pilotfish(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run one command in this process: (exit code, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run_command([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
