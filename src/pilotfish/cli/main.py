"""Where every command starts and ends: signals, errors in words, exit codes."""

import os
import signal
import sys
import traceback
from types import FrameType
from typing import Any, NoReturn

from pilotfish.cli.console import tell
from pilotfish.errors import DiskError, Interrupted, PilotfishError


def main() -> NoReturn:
    """Run the command line and leave with the contract's exit code."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    sys.exit(run(sys.argv[1:]))


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    # the second one means now
    signal.signal(signal.SIGINT, lambda s, f: os._exit(128 + s))
    signal.signal(signal.SIGTERM, lambda s, f: os._exit(128 + s))
    raise Interrupted(signum)


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code, every error told in words."""
    import typer

    from pilotfish.cli.app import app

    as_json = "--json" in arguments
    try:
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
    except (Interrupted, KeyboardInterrupt, typer.Abort) as stop:
        stopped = stop if isinstance(stop, Interrupted) else Interrupted()
        return tell(str(stopped), stopped.exit_code, stopped.hint, as_json)
    except BrokenPipeError:
        # the reader went away (`pilotfish methods | head`): nothing is left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if found := DiskError.of(error):
            return tell(str(found), found.exit_code, found.hint, as_json)
        traceback.print_exc()
        hint = "this is a fault in pilotfish: please report it with the lines above"
        return tell(f"internal error: {type(error).__name__}: {error}", 1, hint, as_json)


def _typing_errors() -> Any:
    """The class of wrong command lines: click's own, or the copy that newer typers carry."""
    import typer

    return next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
