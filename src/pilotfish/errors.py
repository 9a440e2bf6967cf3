"""Errors, each with the exit code of the command line, and the check that torch is there.

A message says what was wrong and what was seen; the hint says what to type.
"""

import difflib
import errno
import os
import re
from collections.abc import Iterable
from importlib.util import find_spec

_DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM),
}


class PilotfishError(Exception):
    """Base of every error that pilotfish raises on purpose; `hint` says what to type next."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(PilotfishError):
    """A wrong argument or config, refused reuse, an unloadable model, or an unmet budget."""

    exit_code = 2


class NoPath(UsageError):
    """A text that cannot be a path."""

    @classmethod
    def of(cls, error: Exception) -> "NoPath | None":
        """Return this error if `error` is what Python raises for such a path, else None."""
        too_long = isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG
        nul = isinstance(error, ValueError) and "embedded null" in str(error)
        lone = isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed"
        if not (too_long or nul or lone):
            return None
        why = "is too long" if too_long else "holds characters that no path can hold"
        return cls(f"a name or path {why}", hint="check the names in the command and the recipe")


class OutOfMemory(UsageError):
    """The device or the machine has no memory left, and batches cannot be halved any more."""

    @classmethod
    def of(cls, error: BaseException) -> "OutOfMemory | None":
        """Return this error if `error` is a library's or Python's out of memory, else None."""
        words = ("out of memory", "not enough memory", "can't allocate memory")
        text = str(error).lower() if isinstance(error, RuntimeError) else ""
        if not (any(each in text for each in words) or isinstance(error, MemoryError)):
            return None
        return cls(
            "out of memory: the device or the machine has none left for this step",
            hint="what is finished is kept; to train, lower train.per_device_train_batch_size or "
            "train.max_length, set train.use_peft=true, or use a smaller model",
        )


class MissingExtra(UsageError):
    """A feature needs packages that are not installed; the hint is the pip line of the extra."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs packages that are not installed",
            hint=f"pip install 'pilotfish[{extra}]'",
        )


class DataError(PilotfishError):
    """More bad rows than `--max-bad-rate` allows, or no usable row at all."""

    exit_code = 3


class GateFailed(PilotfishError):
    """A gate (non-inferiority, `--fail-if-worse-than`) did not hold."""

    exit_code = 4


class GateInconclusive(PilotfishError):
    """A gate could not be decided with the available rows and seeds; not a pass."""

    exit_code = 5


class DamagedRun(PilotfishError):
    """A committed file is missing or its digest differs; such a run is never continued silently."""

    exit_code = 6


class DiskError(PilotfishError):
    """Disk full or another I/O error."""

    exit_code = 74

    @classmethod
    def of(cls, error: Exception) -> "DiskError | None":
        """Return this error if `error` is one of the disk, else None.

        Libraries written in Rust report the error number only in their message.
        """
        if isinstance(error, OSError):
            code, path = error.errno, error.filename
        else:
            match = re.search(r"\(os error (\d+)\)", str(error))
            code, path = int(match[1]) if match else None, None
        if isinstance(error, PilotfishError) or code not in _DISK:
            return None
        return cls(
            f"cannot read or write: {os.strerror(code)} ({path or 'the run or its output'})",
            hint="make room or choose another --out, then run the same command again; finished "
            "work is kept",
        )


class RunBusy(PilotfishError):
    """Another process is working on this run."""

    exit_code = 75


class Interrupted(BaseException):
    """SIGINT (130) or SIGTERM (143) arrived; everything finished is kept.

    Not an Exception, because code that catches every Exception must let it through; not a
    KeyboardInterrupt, because typer ends that without a message.
    """

    def __init__(self, signum: int = 2) -> None:
        super().__init__("interrupted; finished work is kept")
        self.exit_code = 128 + signum
        self.hint = "run the same command again"


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for an unknown name of some kind ("method"), with the nearest known one."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    guess = f"; did you mean '{near[0]}'?" if near else "."
    return UsageError(f"no {kind} is called '{name}'{guess} Known: {', '.join(names)}.")


_PACKAGES = {
    "models": ("torch", "transformers"),
    "train": ("torch", "transformers", "accelerate", "peft"),
    "lm-eval": ("torch", "transformers", "accelerate", "lm_eval"),
}


def need_torch(feature: str, *, extra: str = "models") -> None:
    """Check that the packages of an extra are installed, which a feature ("training") needs.

    Raises:
        MissingExtra: They are not; the hint is the pip line.
    """
    if any(find_spec(package) is None for package in _PACKAGES[extra]):
        raise MissingExtra(feature, extra)
