"""What reaches the terminal: results on stdout, progress and logs on stderr."""

import json
import re
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import typer

from pilotfish.errors import GateFailed
from pilotfish.redaction import redact, redact_values

# What a terminal obeys unseen: C1, marks of direction, line separators, tags, blanks of no width
_UNSEEN = (
    "\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f"
)
_CONTROL = re.compile(rf"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f{_UNSEEN}]")
_RAW = re.compile(f"[{_UNSEEN}]")  # what JSON leaves as it is


def plain(text: str) -> str:
    """Text without secrets, terminal escapes, control or bidi characters: rows may hold any.

    A lone surrogate, which no terminal can be sent, becomes its escape.
    """
    return redact(_CONTROL.sub("", text)).encode("utf-8", "backslashreplace").decode()


def out(text: str) -> None:
    """One line of result on stdout."""
    sys.stdout.write(plain(text) + "\n")


def emit(value: dict[str, Any]) -> None:
    """The one JSON object of `--json`; what could steer a terminal is written as an escape."""
    text = json.dumps(redact_values(value), ensure_ascii=False, allow_nan=False)
    escaped = _RAW.sub(lambda found: json.dumps(found[0])[1:-1], text)
    sys.stdout.write(escaped.encode("utf-8", "backslashreplace").decode() + "\n")


def tell(message: str, code: int, hint: str | None, as_json: bool) -> int:
    """Say one error on stderr (and as JSON on stdout where asked); returns its code."""
    if as_json:
        with suppress(OSError):  # the error may be that nothing can be written there
            emit({"error": message, "exit": code, "hint": hint})
    _log(plain(f"error: {message}") + "\n" + (plain(f"  -> {hint}") + "\n" if hint else ""))
    return code


def fault(error: Exception) -> None:
    """Where an error came from that nobody foresaw, on stderr."""
    _log(plain("".join(traceback.format_exception(error))))


def _log(text: str) -> None:
    """Write on stderr; where nobody reads it any more (`2>&1 | head`) the work goes on."""
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


class Console:
    """Progress on stderr: a moving line with ETA on a terminal, a few lines when piped."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._tty = sys.stderr.isatty()
        self._stage = ""
        self._start = 0.0
        self._shown = 0.0
        self._tenth = -1

    def note(self, text: str) -> None:
        """One log line."""
        if not self._quiet:
            self._clear()
            _log(plain(text) + "\n")

    def step(self, stage: str, done: int, total: int) -> None:
        """Show how far a stage is."""
        if self._quiet or total <= 0:
            return
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._start, self._shown, self._tenth = stage, now, 0.0, -1
        line = f"{stage}: {done:,}/{total:,}{self._eta(now, done, total)}"
        if self._tty:
            self._moving(line, now, done >= total)
        else:
            self._piped(line, now, done, total)

    def _eta(self, now: float, done: int, total: int) -> str:
        if not 0 < done < total:
            return "" if done < total else f"  {now - self._start:.1f} s"
        left = (now - self._start) / done * (total - done)
        return f"  eta {int(left) // 60}:{int(left) % 60:02d}"

    def _moving(self, line: str, now: float, last: bool) -> None:
        if last or now - self._shown > 0.1:
            _log(f"\r\x1b[K{line}" + ("\n" if last else ""))
            self._shown = now

    def _piped(self, line: str, now: float, done: int, total: int) -> None:
        # long stages say each tenth at most every 5 seconds; short ones only that they ended
        tenth = 10 * done // total
        if (tenth != self._tenth and now - max(self._shown, self._start) > 5) or done >= total:
            _log(line + "\n")
            self._shown, self._tenth = now, tenth

    def _clear(self) -> None:
        if self._tty and self._shown:
            _log("\r\x1b[K")


def leave(report: Mapping[str, Any]) -> None:
    """Say on stderr which gates do not hold and end with their exit code; else go on.

    Called last: the report is written and told by then, and counts whatever its gates say.
    """
    gates = report.get("gates")
    if not gates:
        return
    from pilotfish.comparison.gates import exit_code

    if code := exit_code(gates):
        outcome = "fail" if code == GateFailed.exit_code else "inconclusive"
        names = [str(gate["name"]) for gate in gates if gate["outcome"] == outcome]
        sys.stderr.write(plain(f"gate {', '.join(names)}: {outcome}") + "\n")
        raise typer.Exit(code)
