"""The start and the end of every command: signals, error messages, exit codes."""

import atexit
import os
import select
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, NoReturn, TextIO

from pilotfish.cli.console import print_error, print_traceback
from pilotfish.errors import (
    DiskError,
    Interrupted,
    NoPath,
    OutOfMemory,
    PilotfishError,
    UsageError,
)

# Seconds from a signal to the exit, whatever the main thread is doing; 5 are promised, and a busy
# machine needs some of them to end a process.
GRACE = 4.0


def main() -> NoReturn:
    """Run the command line and exit with the contract's code."""
    open_streams()
    handle_signals("--json" in sys.argv)
    code = run(sys.argv[1:])
    for number in _SIGNALS:
        signal.signal(
            number, _ignore
        )  # the command is done: nothing interrupts the libraries' cleanup
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # else Python flushes again at its end, and exits with 120
            _discard(stream)
    _leave(code)


def _leave(code: int) -> NoReturn:
    """Exit; under torchrun, without Python's own shutdown.

    A gloo thread that frees its last tensor during the interpreter's shutdown aborts the process,
    and torchrun would report finished work as failed. No call joins those threads for certain.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        atexit._run_exitfuncs()
        os._exit(code)
    sys.exit(code)


def open_streams() -> None:
    """Open stdin, stdout and stderr on the null device where they are closed (`>&-`, services).

    Otherwise a file of the run could get one of their numbers, and receive what libraries print.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _discard(stream: TextIO) -> None:
    """Send what is still buffered to the null device."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def handle_signals(as_json: bool = False) -> None:
    """Make SIGINT and SIGTERM end the command with a message within seconds; a second one at once.

    Python handles a signal between two bytecodes, and one step of a large model may take a minute:
    a thread that the signal wakes at once ends the process in time.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in _SIGNALS:
        signal.signal(number, _stop)
    threading.Thread(target=_exit_in_time, args=(read, as_json), daemon=True).start()


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_REPORTED = threading.Event()  # one message and one object, whichever thread prints them


def _exit_in_time(read: int, as_json: bool) -> None:
    """Exit on the second signal, or when the first was not handled in time."""
    first = _next(read, None)
    signum = _next(read, time.monotonic() + GRACE) or first
    try:
        if not _REPORTED.is_set():
            _report(Interrupted(signum), as_json)
            sys.stdout.flush()
    finally:  # the reader of stdout may be gone
        os._exit(128 + signum)


def _next(read: int, end: float | None) -> int:
    """Return the next SIGINT or SIGTERM; 0 where none came before `end`."""
    while True:
        left = None if end is None else max(0.0, end - time.monotonic())
        if not select.select([read], [], [], left)[0]:
            return 0
        signum = os.read(read, 1)[0]
        if signum in _SIGNALS:
            return signum


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    # cleanup is not interrupted again: the thread handles the second signal
    for number in _SIGNALS:
        signal.signal(number, _ignore)
    raise Interrupted(signum)


def _ignore(signum: int, frame: FrameType | None) -> None:
    """Do nothing. SIG_IGN would not wake the thread."""


def run(arguments: list[str]) -> int:
    """Run one command; prints every error as a message and returns the exit code."""
    as_json = "--json" in arguments
    try:
        return _run(arguments, as_json)  # signals arrive while its libraries are loaded too
    except (Interrupted, KeyboardInterrupt) as stop:
        return _report(stop if isinstance(stop, Interrupted) else Interrupted(), as_json)


def _report(stopped: Interrupted, as_json: bool) -> int:
    _REPORTED.set()
    return print_error(str(stopped), stopped.exit_code, stopped.hint, as_json)


def _run(arguments: list[str], as_json: bool) -> int:
    import typer

    from pilotfish.cli.app import app

    try:
        if "" in arguments:  # as a folder it would be the current one
            raise UsageError("an argument is empty", hint="check the variables of the command")
        result = app(arguments, standalone_mode=False, prog_name="pilotfish")
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except typer.Exit as done:
        return int(done.exit_code)
    except _command_line_error() as error:
        context = getattr(error, "ctx", None)
        usage = context.command_path if context else "pilotfish"
        return print_error(error.format_message(), 2, f"{usage} --help", as_json)
    except PilotfishError as error:
        return print_error(str(error), error.exit_code, error.hint, as_json)
    except typer.Abort as stop:
        raise Interrupted from stop
    except BrokenPipeError:
        # the reader is gone (`pilotfish methods | head`): nothing is left to print
        _discard(sys.stdout)
        return 0
    except SystemExit as left:
        if isinstance(left.__context__, BrokenPipeError):  # click turns it into this
            return 0
        if isinstance(left.code, int):
            return left.code
        raise
    except Exception as error:
        if found := DiskError.of(error) or NoPath.of(error) or OutOfMemory.of(error):
            return print_error(str(found), found.exit_code, found.hint, as_json)
        print_traceback(error)
        hint = "this is a fault in pilotfish: please report it with the lines above"
        return print_error(f"internal error: {type(error).__name__}: {error}", 1, hint, as_json)


def _command_line_error() -> Any:
    """Return the class of wrong command lines: click's, or that of typer's own copy of click."""
    import typer

    return next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
