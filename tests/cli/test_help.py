"""`--help` says what every option is for, and its examples name only what exists."""

import shlex
from typing import Any

import pytest
import typer.main

from pilotfish.arms.selections import DEFAULT
from pilotfish.cli.app import app
from tests.cli.conftest import Command

EVERY: dict[str, Any] = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
COMMANDS = {name: command for name, command in EVERY.items() if not command.hidden}


def options(command: str) -> set[str]:
    return {name for param in COMMANDS[command].params for name in param.opts} | {"--help", "-h"}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_is_explained_in_one_sentence(command: str) -> None:
    for param in COMMANDS[command].params:
        told = getattr(param, "help", None) or ""
        assert told.endswith("."), f"{command} {param.name}: {told!r}"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_examples_in_help_name_only_what_exists(command: str, pilotfish: Command) -> None:
    code, out, _ = pilotfish(command, "--help")
    assert code == 0
    for line in out.splitlines():
        if line.strip().startswith("pilotfish "):
            words = shlex.split(line)
            assert words[1] == command
            assert {word for word in words if word.startswith("--")} <= options(command), line


def test_the_summaries_are_whole_sentences(pilotfish: Command) -> None:
    _, out, _ = pilotfish("--help")
    lines = out.partition("Commands:")[2].strip().splitlines()
    assert len(lines) == len(COMMANDS)
    assert all(line.endswith(".") and not line.endswith("...") for line in lines)


def test_run_names_the_default_method_it_takes(pilotfish: Command) -> None:
    _, out, _ = pilotfish("run", "--help")
    assert DEFAULT in out


def test_judge_is_the_hidden_old_name_of_evaluate(pilotfish: Command) -> None:
    assert {*EVERY} - {*COMMANDS} == {"judge"}
    assert "judge" not in pilotfish("--help")[1]
    old, new = (pilotfish(name, "--help")[1] for name in ("judge", "evaluate"))
    assert old.replace("pilotfish judge", "pilotfish evaluate", 1) == new
    assert pilotfish("judge", "nowhere")[::2] == pilotfish("evaluate", "nowhere")[::2]
