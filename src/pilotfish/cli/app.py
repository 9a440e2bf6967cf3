"""The table of commands; each command's file imports its flow only when it runs."""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pilotfish import remote_code
from pilotfish._version import __version__
from pilotfish.cli.compare import compare
from pilotfish.cli.demo import demo
from pilotfish.cli.doctor import doctor
from pilotfish.cli.evaluate import evaluate
from pilotfish.cli.explain import explain
from pilotfish.cli.export import export
from pilotfish.cli.inspect import inspect
from pilotfish.cli.label import label
from pilotfish.cli.methods import methods
from pilotfish.cli.options import RecipeCommand
from pilotfish.cli.plan import plan
from pilotfish.cli.report import report
from pilotfish.cli.run import run
from pilotfish.cli.schema import schema
from pilotfish.cli.score import score
from pilotfish.cli.select import select
from pilotfish.cli.train import train
from pilotfish.cli.verify import verify

COMMANDS: dict[str, Callable[..., None] | RecipeCommand] = {
    "demo": demo, "run": run, "inspect": inspect, "plan": plan, "score": score, "select": select,
    "label": label, "train": train, "evaluate": evaluate, "compare": compare, "report": report,
    "explain": explain, "export": export, "verify": verify, "methods": methods, "doctor": doctor,
    "schema": schema, "judge": evaluate,
}  # fmt: skip
HIDDEN = ("judge",)  # the old name of evaluate


class BuiltCommands(Mapping[str, Any]):
    """The commands by name, each built when it is looked up.

    Options of recipe fields need pydantic, which `pilotfish --help` must not wait for.
    """

    def __getitem__(self, name: str) -> Any:
        command = COMMANDS[name]
        callback = command.callback() if isinstance(command, RecipeCommand) else command
        one = typer.Typer(
            add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
        )
        one.command(name, hidden=name in HIDDEN)(callback)
        return typer.main.get_command(one)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class Commands(TyperGroup):
    """The group of all commands; `--help` lists them without building one."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = BuiltCommands()  # type: ignore[assignment]  # nothing is ever added

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write every name with the first line of its docstring."""
        rows = []
        for name, command in COMMANDS.items():
            function = command.function if isinstance(command, RecipeCommand) else command
            if name not in HIDDEN:
                rows.append((name, (function.__doc__ or "").partition("\n")[0]))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


app = typer.Typer(
    cls=Commands,
    name="pilotfish",
    help="Weak-to-strong data selection: a small model picks the rows worth learning from.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pilotfish {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Weak-to-strong data selection: a small model picks the rows worth learning from."""
    context.call_on_close(
        lambda: remote_code.allow(False)
    )  # remote code is allowed for one command
