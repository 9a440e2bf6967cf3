"""The table of commands; each command's file imports its flow only when it runs."""

from typing import Annotated

import typer

from pilotfish import remote_code
from pilotfish._version import __version__
from pilotfish.cli.compare import compare
from pilotfish.cli.demo import demo
from pilotfish.cli.doctor import doctor
from pilotfish.cli.evaluate import judge
from pilotfish.cli.explain import explain
from pilotfish.cli.export import export
from pilotfish.cli.inspect import inspect
from pilotfish.cli.label import label
from pilotfish.cli.methods import methods
from pilotfish.cli.plan import plan
from pilotfish.cli.report import report
from pilotfish.cli.run import run
from pilotfish.cli.schema import schema
from pilotfish.cli.score import score
from pilotfish.cli.select import select
from pilotfish.cli.train import train
from pilotfish.cli.verify import verify

app = typer.Typer(
    name="pilotfish",
    help="Weak-to-strong data selection: a small model picks the rows worth learning from.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pilotfish {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Weak-to-strong data selection: a small model picks the rows worth learning from."""
    context.call_on_close(
        lambda: remote_code.allow(False)
    )  # what is asked, is asked for one command


_COMMANDS = (
    demo, run, inspect, plan, score, select, label, train, judge, compare,
    report, explain, export, verify, methods, doctor, schema,
)  # fmt: skip

for _command in _COMMANDS:
    app.command()(_command)
