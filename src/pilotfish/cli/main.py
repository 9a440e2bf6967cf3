"""Where every command starts and ends: signals, errors in words, exit codes."""

import atexit
import os
import select
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, NoReturn, TextIO

from pilotfish.cli.console import fault, tell
from pilotfish.errors import (
    DiskError,
    Interrupted,
    NoPath,
    OutOfMemory,
    PilotfishError,
    UsageError,
)

# Seconds from a signal to the end, whatever the main thread is in the middle of; 5 are promised,
# and a busy machine needs some of them to put a process away.
GRACE = 4.0


def main() -> NoReturn:
    """Run the command line and leave with the contract's exit code."""
    open_streams()
    listen("--json" in sys.argv)
    code = run(sys.argv[1:])
    for number in _SIGNALS:
        signal.signal(number, _ignore)  # all is said and done: libraries are put away in peace
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # else Python tries again while it ends, and ends with 120
            _to_nobody(stream)
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End the process; one of several that trained together without taking Python apart first.

    A thread of gloo that lets go of its last tensor while the interpreter ends aborts the process,
    and torchrun would call done work failed. No call joins those threads for certain.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        atexit._run_exitfuncs()
        os._exit(code)
    sys.exit(code)


def open_streams() -> None:
    """Started with closed streams (`>&-`, some services) we talk to nobody.

    Their numbers are taken first: a file of a run that got one would hold what libraries print.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _to_nobody(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def listen(as_json: bool = False) -> None:
    """From now on SIGINT and SIGTERM end a command in words, within seconds; twice means now.

    Python answers a signal between two steps of its own, and one step of a large model may be a
    minute: a thread that the signal wakes at once sees to it that nobody waits that long.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in _SIGNALS:
        signal.signal(number, _stop)
    threading.Thread(target=_watch, args=(read, as_json), daemon=True).start()


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_TOLD = threading.Event()  # one sentence and one object, whichever thread says them


def _watch(read: int, as_json: bool) -> None:
    """Leave on the second signal, or when the first was not answered in time."""
    first = _next(read, None)
    signum = _next(read, time.monotonic() + GRACE) or first
    try:
        if not _TOLD.is_set():
            _tell(Interrupted(signum), as_json)
            sys.stdout.flush()
    finally:  # whoever should read it may be gone
        os._exit(128 + signum)


def _next(read: int, end: float | None) -> int:
    """The next signal that means stop; 0 where none came before `end`."""
    while True:
        left = None if end is None else max(0.0, end - time.monotonic())
        if not select.select([read], [], [], left)[0]:
            return 0
        signum = os.read(read, 1)[0]
        if signum in _SIGNALS:
            return signum


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    # what cleans up is not disturbed again: the second signal is answered by the thread
    for number in _SIGNALS:
        signal.signal(number, _ignore)
    raise Interrupted(signum)


def _ignore(signum: int, frame: FrameType | None) -> None:
    """Not SIG_IGN, which the thread would not hear of."""


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code, every error told in words."""
    as_json = "--json" in arguments
    try:
        return _run(arguments, as_json)  # signals come while its libraries are loaded too
    except (Interrupted, KeyboardInterrupt) as stop:
        return _tell(stop if isinstance(stop, Interrupted) else Interrupted(), as_json)


def _tell(stopped: Interrupted, as_json: bool) -> int:
    _TOLD.set()
    return tell(str(stopped), stopped.exit_code, stopped.hint, as_json)


def _run(arguments: list[str], as_json: bool) -> int:
    import typer

    from pilotfish.cli.app import app

    try:
        if "" in arguments:  # as a folder it would be the one we are in
            raise UsageError("an argument is empty", hint="check the variables of the command")
        result = app(arguments, standalone_mode=False, prog_name="pilotfish")
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except typer.Exit as done:
        return int(done.exit_code)
    except _typing_errors() as error:
        context = getattr(error, "ctx", None)
        usage = context.command_path if context else "pilotfish"
        return tell(error.format_message(), 2, f"{usage} --help", as_json)
    except PilotfishError as error:
        return tell(str(error), error.exit_code, error.hint, as_json)
    except typer.Abort as stop:
        raise Interrupted from stop
    except BrokenPipeError:
        # the reader went away (`pilotfish methods | head`): nothing is left to say
        _to_nobody(sys.stdout)
        return 0
    except SystemExit as left:
        if isinstance(left.__context__, BrokenPipeError):  # click's way of saying the same
            return 0
        if isinstance(left.code, int):
            return left.code
        raise
    except Exception as error:
        if found := DiskError.of(error) or NoPath.of(error) or OutOfMemory.of(error):
            return tell(str(found), found.exit_code, found.hint, as_json)
        fault(error)
        hint = "this is a fault in pilotfish: please report it with the lines above"
        return tell(f"internal error: {type(error).__name__}: {error}", 1, hint, as_json)


def _typing_errors() -> Any:
    """The class of wrong command lines: click's own, or the copy that newer typers carry."""
    import typer

    return next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
