"""What reaches the terminal: results on stdout, progress and logs on stderr."""

import json
import re
import sys
import time
from typing import Any

_CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)


_UNSEEN = re.compile(r"[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # what JSON leaves raw


def plain(text: str) -> str:
    """Text without terminal escapes, control or bidi characters: dataset text may hold any."""
    return _CONTROL.sub("", text)


def out(text: str) -> None:
    """One line of result on stdout."""
    sys.stdout.write(plain(text) + "\n")


def emit(value: dict[str, Any]) -> None:
    """The one JSON object of `--json`; what could steer a terminal is written as an escape."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    escaped = _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    sys.stdout.write(escaped.encode("utf-8", "backslashreplace").decode() + "\n")


def tell(message: str, code: int, hint: str | None, as_json: bool) -> int:
    """Say one error on stderr (and as JSON on stdout where asked); returns its code."""
    if as_json:
        emit({"error": message, "exit": code, "hint": hint})
    sys.stderr.write(plain(f"error: {message}") + "\n")
    if hint:
        sys.stderr.write(plain(f"  -> {hint}") + "\n")
    sys.stderr.flush()
    return code


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
            sys.stderr.write(plain(text) + "\n")
            sys.stderr.flush()

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
            sys.stderr.write(f"\r\x1b[K{line}" + ("\n" if last else ""))
            sys.stderr.flush()
            self._shown = now

    def _piped(self, line: str, now: float, done: int, total: int) -> None:
        # long stages say each tenth at most every 5 seconds; short ones only that they ended
        tenth = 10 * done // total
        if (tenth != self._tenth and now - max(self._shown, self._start) > 5) or done >= total:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
            self._shown, self._tenth = now, tenth

    def _clear(self) -> None:
        if self._tty and self._shown:
            sys.stderr.write("\r\x1b[K")
