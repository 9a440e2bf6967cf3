"""The options that several commands share, declared once."""

from typing import Annotated

import typer

from pilotfish.errors import UsageError

Data = Annotated[
    str, typer.Argument(help="A jsonl/json/csv/parquet file, folder, glob, or hub id.")
]
RunFolder = Annotated[str, typer.Argument(metavar="RUN", help="A run folder.")]
Weak = Annotated[
    str, typer.Option("--weak", metavar="MODEL", help="The small model that measures.")
]
Strong = Annotated[str, typer.Option("--strong", metavar="MODEL", help="The model that learns.")]
Budget = Annotated[str, typer.Option(help="10%, 500rows or 2Mtokens.")]
Out = Annotated[str | None, typer.Option("--out", metavar="RUN", help="The run folder.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Read only the first N records.")]
MaxBadRate = Annotated[
    float, typer.Option(min=0, max=1, help="Share of bad rows above which to stop (exit 3).")
]
Map = Annotated[
    str | None, typer.Option("--map", help="Columns, as prompt=question,completion=answer.")
]
Seed = Annotated[int, typer.Option(help="The seed of every random choice.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="a.b=value", help="Override a recipe setting.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]
Force = Annotated[bool, typer.Option("--force", help="Redo and overwrite what stands in the way.")]
Trusted = Annotated[
    str | None,
    typer.Option(
        metavar="DATA", help="Rows a person vouches for: the weak model is tuned on them."
    ),
]
Test = Annotated[str | None, typer.Option(metavar="DATA", help="Held-out rows to judge on.")]
Metric = Annotated[str | None, typer.Option(help="exact_match, accuracy or loss.")]
MethodOption = Annotated[
    str | None, typer.Option("--method", metavar="METHOD", help="name or name(key=value, ...).")
]
Direction = Annotated[str | None, typer.Option(help="high, low or middle.")]
MaxLength = Annotated[
    int | None,
    typer.Option(min=2, help="Tokens the weak model sees of a row (clamped to its window)."),
]
Precision = Annotated[str, typer.Option(help="fp32, bf16 or auto.")]
Config = Annotated[str | None, typer.Option("--dataset-config", help="Hub dataset configuration.")]
Split = Annotated[str | None, typer.Option(help="Hub dataset split.")]
Revision = Annotated[str | None, typer.Option(help="Hub dataset revision.")]


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
