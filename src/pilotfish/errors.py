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


class NoPath(UsageError):
    """Text that no disk can take for a path."""

    @classmethod
    def of(cls, error: Exception) -> "NoPath | None":
        """That error, where `error` is what Python says of such a path; None for others."""
        long = isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG
        nul = isinstance(error, ValueError) and "embedded null" in str(error)
        lone = isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed"
        if not (long or nul or lone):
            return None
        why = "is too long" if long else "holds characters that no path can hold"
        return cls(f"a name or path {why}", hint="check the names in the command and the recipe")


class OutOfMemory(UsageError):
    """The device or the machine has no memory left, where nothing can be halved any more."""

    @classmethod
    def of(cls, error: BaseException) -> "OutOfMemory | None":
        """That error, where `error` is what a library or Python says of it; None for others."""
        words = ("out of memory", "not enough memory", "can't allocate memory")
        said = isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
        if not (said or isinstance(error, MemoryError)):
            return None
        return cls(
            "out of memory: the device or the machine has none left for this step",
            hint="what is finished is kept; to train, lower train.per_device_train_batch_size or "
            "train.max_length, set train.use_peft=true, or use a smaller model",
        )


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
            f"cannot read or write: {os.strerror(code)} ({path or 'the run or its output'})",
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
