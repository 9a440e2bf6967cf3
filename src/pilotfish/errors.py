"""One small tree of errors, each with the exit code the command line ends with.

Errors are written for the person: what was wrong, what was seen, what to type.
"""

import difflib
import errno
import os
import re
from collections.abc import Iterable

_DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM),
}


class PilotfishError(Exception):
    """Base of every error pilotfish raises on purpose.

    `hint` says what to type next; the command line prints it on its own line.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(PilotfishError):
    """Wrong words, config, refused reuse, unloadable model, or a budget that cannot be met."""

    exit_code = 2


class MissingExtra(UsageError):
    """A heavy dependency is absent; the hint is the pip line that brings it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs packages that are not installed",
            hint=f"pip install 'pilotfish[{extra}]'",
        )


class DataError(PilotfishError):
    """More bad rows than `--max-bad-rate` allows, or no usable row at all."""

    exit_code = 3


class GateFailed(PilotfishError):
    """A gate (non-inferiority, `--fail-if-worse-than`) did not hold."""

    exit_code = 4


class GateInconclusive(PilotfishError):
    """A gate could not be decided with the rows and seeds at hand; not a pass."""

    exit_code = 5


class DamagedRun(PilotfishError):
    """A committed file is missing or its digest differs; never silently continued from."""

    exit_code = 6


class DiskError(PilotfishError):
    """Disk full or another I/O error."""

    exit_code = 74

    @classmethod
    def of(cls, error: Exception) -> "DiskError | None":
        """The disk error that `error` is, if it is one; libraries in Rust say it in words only."""
        if isinstance(error, OSError):
            code, path = error.errno, error.filename
        else:
            said = re.search(r"\(os error (\d+)\)", str(error))
            code, path = int(said[1]) if said else None, None
        if isinstance(error, PilotfishError) or code not in _DISK:
            return None
        return cls(
            f"cannot read or write: {os.strerror(code)} ({path or 'run folder'})",
            hint="make room or choose another --out, then run the same command again; finished "
            "work is kept",
        )


class RunBusy(PilotfishError):
    """Another process plans this run."""

    exit_code = 75


class Interrupted(BaseException):
    """SIGINT (130) or SIGTERM (143) arrived; everything finished is kept.

    No Exception: code that catches every one of those, ours or a library's, must let it through;
    and no KeyboardInterrupt, which typer ends without a word.
    """

    def __init__(self, signum: int = 2) -> None:
        super().__init__("interrupted; finished work is kept")
        self.exit_code = 128 + signum
        self.hint = "run the same command again"


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is in no table, with the nearest known one."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    guess = f"; did you mean '{near[0]}'?" if near else "."
    return UsageError(f"no {kind} is called '{name}'{guess} Known: {', '.join(names)}.")
