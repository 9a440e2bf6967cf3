"""The options that several commands share, declared once."""

from typing import Annotated, Any

import typer

from pilotfish import remote_code
from pilotfish.errors import UsageError

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A jsonl, json, csv or parquet file, a folder or glob of them, or a hub dataset id.",
    ),
]
RunFolder = Annotated[str, typer.Argument(metavar="RUN", help="A run folder.")]
Weak = Annotated[
    str,
    typer.Option(
        "--weak", metavar="MODEL", help="The small model that measures: a folder or hub id."
    ),
]
Strong = Annotated[
    str,
    typer.Option("--strong", metavar="MODEL", help="The model that learns: a folder or hub id."),
]
BUDGET_HELP = "How much to keep: 10% of all pool rows, 500rows or 2Mtokens."
Budget = Annotated[str, typer.Option(metavar="BUDGET", help=BUDGET_HELP)]
Out = Annotated[
    str | None, typer.Option("--out", metavar="RUN", help="The run folder to write to.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Read only the first N records.")]
MaxBadRate = Annotated[
    float, typer.Option(min=0, max=1, help="Share of bad records above which to stop (exit 3).")
]
Map = Annotated[
    str | None,
    typer.Option(
        "--map",
        metavar="FIELD=COLUMN,..",
        help="Which column holds what, as prompt=question,completion=answer.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="a.b=value",
        help="Set any recipe setting, as train.learning_rate=2e-4; may be repeated.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]
Force = Annotated[bool, typer.Option("--force", help="Redo and overwrite what stands in the way.")]
Trusted = Annotated[
    str | None,
    typer.Option(
        metavar="DATA", help="Rows a person vouches for: the weak model is tuned on them first."
    ),
]
Test = Annotated[str | None, typer.Option(metavar="DATA", help="Held-out rows to judge on.")]
Metric = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="exact_match, accuracy or loss; default: the run's, or what fits the rows.",
    ),
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="METHOD",
        help="How rows are scored, as name or name(key=value, ...); see `pilotfish methods`. "
        "Default: perplexity(direction=low,end=true).",
    ),
]
Direction = Annotated[
    str | None,
    typer.Option(metavar="END", help="Which end of the scores to keep: high, low or middle."),
]
MaxLength = Annotated[
    int | None,
    typer.Option(
        min=2, help="Tokens the weak model sees of a row; default: 1024, at most its window."
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Number format of the weak model: fp32, bf16, int8 (CPUs with int8 dot products) or "
        "auto: bf16 on GPUs that have it, int8 where the CPU can, model and pool are large and a "
        "sample agrees with fp32, else fp32.",
    ),
]
Config = Annotated[
    str | None,
    typer.Option("--dataset-config", metavar="NAME", help="Configuration of a hub dataset."),
]
Split = Annotated[
    str | None, typer.Option(metavar="NAME", help="Split of a hub dataset; default: train.")
]
Revision = Annotated[str | None, typer.Option(metavar="NAME", help="Revision of a hub dataset.")]


def _ask(on: bool) -> bool:
    remote_code.allow(on)
    return on


TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        callback=_ask,
        help="Run the code that a model brings with it: it can do all that you can.",
    ),
]


def parse_map(text: str | None) -> dict[str, str]:
    """`prompt=question,completion=answer` as a dict."""
    pairs: dict[str, str] = {}
    for piece in (text or "").split(",") if text else []:
        field, equals, column = piece.partition("=")
        if not equals or not field.strip() or not column.strip():
            raise UsageError(f"--map: '{piece}' is not field=column")
        pairs[field.strip()] = column.strip()
    return pairs


def parse_names(text: str | None) -> list[str]:
    """A comma-separated list of names."""
    return [piece.strip() for piece in (text or "").split(",") if piece.strip()]


def given(context: typer.Context, typed: dict[str, Any], *, from_recipe: bool) -> dict[str, Any]:
    """What the person typed; beside a recipe, defaults that nobody typed must not win."""
    if not from_recipe:
        return {key: value for key, value in typed.items() if value is not None}
    names = {"out": "out_", "map": "map_"}
    return {
        key: value
        for key, value in typed.items()
        if key != "data"
        and getattr(context.get_parameter_source(names.get(key, key)), "name", "") == "COMMANDLINE"
    }
