"""Progress: one redrawn line on a terminal, plain lines elsewhere, text of rows never obeyed."""

import io
import subprocess
import sys
from contextlib import redirect_stderr

import pytest

from pilotfish.cli import console
from pilotfish.cli.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Gone(Terminal):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def work(stage: str = "score", total: int = 40, *, quiet: bool = False) -> None:
    progress = Console(quiet=quiet)
    progress.note("start")
    for done in range(total + 1):
        progress.step(stage, done, total)


@pytest.mark.parametrize("columns", ["80", "30"])
def test_a_bar_stays_one_line_on_a_terminal(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    with redirect_stderr(terminal):
        work("score of a model with quite a long name")
    shown = terminal.getvalue().removeprefix("start\n")
    assert shown.count("\n") == 1 and shown.endswith("\n")
    assert shown.count("\r\x1b[K") >= 2
    if columns == "80":
        assert "40/40" in shown.rsplit("\r", 1)[1]


def test_colours_are_for_terminals_without_no_color(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redirect_stderr(terminal):
        work()
    assert "\x1b[36m" in terminal.getvalue()
    terminal.truncate(0)
    monkeypatch.setenv("NO_COLOR", "1")
    with redirect_stderr(terminal):
        work()
    assert "40/40" in terminal.getvalue()
    assert not any(f"\x1b[{code}" in terminal.getvalue() for code in ("3", "9", "4"))


def test_a_note_takes_the_place_of_the_bar_and_markup_is_text(terminal: Terminal) -> None:
    with redirect_stderr(terminal):
        progress = Console()
        progress.step("[red]score[/red]\u202e\x1b[31m", 1, 2)
        progress.note("[bold]row[/bold] \x1b[2J\u2066evil")
    shown = terminal.getvalue()
    assert "[red]score[/red]" in shown
    assert shown.endswith("\r\x1b[K[bold]row[/bold] evil\n")
    assert not set("\u202e\u2066") & set(shown) and "\x1b[31m" not in shown


def test_a_pipe_gets_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    work()
    assert capsys.readouterr().err == "start\nscore: 40/40  0.0 s\n"


def test_a_long_stage_in_a_pipe_prints_each_tenth_at_most_every_5_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(float(second) for second in range(1000))
    monkeypatch.setattr(console.time, "monotonic", lambda: next(now))
    work(total=60)
    lines = capsys.readouterr().err.splitlines()[1:]
    assert len(lines) == 10 and lines[-1].startswith("score: 60/60")
    assert "eta 0:" in lines[0]


def test_quiet_prints_nothing(terminal: Terminal) -> None:
    with redirect_stderr(terminal):
        work(quiet=True)
    assert terminal.getvalue() == ""


def test_a_terminal_that_is_gone_does_not_stop_the_work() -> None:
    with redirect_stderr(Gone()):
        work()


def test_rich_is_loaded_on_a_terminal_only() -> None:
    code = (
        "import sys\nfrom pilotfish.cli.console import Console\n"
        "Console().step('score', 1, 1)\nassert 'rich' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
