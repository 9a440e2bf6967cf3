"""Everything that is printed: results on stdout, progress and logs on stderr."""

import io
import json
import re
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pilotfish.errors import GateFailed
from pilotfish.redaction import redact, redact_values

# Characters that steer a terminal unseen: C1, marks of direction, line separators, tags and blanks
# of no width
_UNSEEN = (
    "\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f"
)
_CONTROL = re.compile(rf"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f{_UNSEEN}]")
_RAW = re.compile(f"[{_UNSEEN}]")  # what JSON leaves as it is
_CLEAR_LINE = "\r\x1b[K"


def plain(text: str) -> str:
    """Remove secrets, terminal escapes, control and bidi characters: rows may hold any of them.

    A lone surrogate, which no terminal accepts, becomes its escape.
    """
    return redact(_CONTROL.sub("", text)).encode("utf-8", "backslashreplace").decode()


def out(text: str) -> None:
    """Print one line of result on stdout."""
    sys.stdout.write(plain(text) + "\n")


def emit(value: dict[str, Any]) -> None:
    """Print the one JSON object of `--json`; characters that steer a terminal become escapes."""
    text = json.dumps(redact_values(value), ensure_ascii=False, allow_nan=False)
    escaped = _RAW.sub(lambda found: json.dumps(found[0])[1:-1], text)
    sys.stdout.write(escaped.encode("utf-8", "backslashreplace").decode() + "\n")


def print_error(message: str, code: int, hint: str | None, as_json: bool) -> int:
    """Print one error on stderr, and with `--json` as an object on stdout; returns its code."""
    if as_json:
        with suppress(OSError):  # the error may be that nothing can be written there
            emit({"error": message, "exit": code, "hint": hint})
    _log(plain(f"error: {message}") + "\n" + (plain(f"  -> {hint}") + "\n" if hint else ""))
    return code


def print_traceback(error: Exception) -> None:
    """Print the traceback of an internal error on stderr."""
    _log(plain("".join(traceback.format_exception(error))))


def _log(text: str) -> None:
    """Write on stderr; the work goes on where the reader is gone (`2>&1 | head`)."""
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


def exit_by_gates(report: Mapping[str, Any]) -> None:
    """End the command with 4 where a gate of the report failed, with 5 where one is inconclusive.

    Call it last: the report is written and printed by then, whatever its gates say.
    """
    gates = report.get("gates")
    if not gates:
        return
    import typer

    from pilotfish.comparison.gates import exit_code

    if code := exit_code(gates):
        outcome = "fail" if code == GateFailed.exit_code else "inconclusive"
        names = [str(gate["name"]) for gate in gates if gate["outcome"] == outcome]
        _log(plain(f"gate {', '.join(names)}: {outcome}") + "\n")
        raise typer.Exit(code)


class Console:
    """Progress on stderr: one line that rich redraws on a terminal, a few plain lines elsewhere."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._on_terminal = sys.stderr.isatty()
        self._stage = ""
        self._start = 0.0
        self._shown = 0.0
        self._tenth = -1

    def note(self, text: str) -> None:
        """Print one log line."""
        if not self._quiet:
            start = _CLEAR_LINE if self._on_terminal and self._shown else ""
            _log(f"{start}{plain(text)}\n")

    def step(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` units of a stage are finished."""
        if self._quiet or total <= 0:
            return
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._start, self._shown, self._tenth = stage, now, 0.0, -1
        last = done >= total
        if self._on_terminal:
            if last or now - self._shown > 0.1:
                line = _progress_bar(plain(stage), done, total, self._time(now, done, total))
                _log(_CLEAR_LINE + line + ("\n" if last else ""))
                self._shown = now
            return
        # long stages print each tenth at most every 5 seconds; short ones only their end
        tenth = 10 * done // total
        if last or (tenth != self._tenth and now - max(self._shown, self._start) > 5):
            time_text = self._time(now, done, total)
            _log(plain(f"{stage}: {done:,}/{total:,}{'  ' if time_text else ''}{time_text}") + "\n")
            self._shown, self._tenth = now, tenth

    def _time(self, now: float, done: int, total: int) -> str:
        """Return the time left, or the time taken once the stage is finished."""
        if done >= total:
            return f"{now - self._start:.1f} s"
        if done <= 0:
            return ""
        left = (now - self._start) / done * (total - done)
        return f"eta {int(left) // 60}:{int(left) % 60:02d}"


def _progress_bar(stage: str, done: int, total: int, time_text: str) -> str:
    """Return one line with a bar, as long as the terminal is wide at most.

    rich is loaded here, on a terminal only. It takes colours away where NO_COLOR is set; the texts
    are Text objects, so that square brackets in them are no markup.
    """
    from rich.console import Console as Terminal
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1))
    for _ in range(4):
        grid.add_column(no_wrap=True)
    grid.add_row(
        Text(stage),
        ProgressBar(total=total, completed=min(done, total), width=20),
        Text(f"{done:,}/{total:,}"),
        Text(time_text, style="cyan"),
    )
    line = io.StringIO()  # not stderr itself: rich ends the process where a reader is gone
    Terminal(file=line, force_terminal=True).print(grid)
    return line.getvalue().splitlines()[0].rstrip()
