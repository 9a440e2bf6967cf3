"""`pilotfish label`: the weak model writes the answers."""

from typing import TYPE_CHECKING, Annotated

import typer

from pilotfish.cli.console import Console, emit, out
from pilotfish.cli.options import (
    READING,
    FieldOption,
    Force,
    Json,
    Out,
    Quiet,
    Set,
    recipe_options,
)
from pilotfish.errors import UsageError

if TYPE_CHECKING:
    from pilotfish.config import LabelConfig, Recipe
    from pilotfish.labeling.label import Labelled


@recipe_options(
    FieldOption("data", metavar="DATA|RUN", help="The rows, or a run that holds them."),
    FieldOption(
        "weak", help="The model that writes the labels: a local folder or a hub id.", required=True
    ),
    "trusted",
    *READING,
    "trust_remote_code",
    settings="LabelConfig",
)
def label(
    out_: Out = None,
    as_: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Name of the labels; default: the kind."),
    ] = None,
    *,
    recipe: "Recipe",
    settings: "LabelConfig",
    set_: Set = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let the weak model write the answer of every row (label mode).

    Writes RUN/labels/NAME.parquet with the label, confidence, status and reason of every row, and
    NAME.jsonl with the rows whose label is kept: as they came, their answer replaced by the label.
    The same command again labels only what is missing.

    \b
    Examples:
      pilotfish label rows.jsonl --weak SMALL --out RUN
      pilotfish label reviews.tsv --map text=sentence --weak SMALL --kind soft --out RUN
      pilotfish label rows.jsonl --weak SMALL --trusted good.jsonl --folds 5
        --abstain-below 0.6 --out RUN
      pilotfish label rows.jsonl --weak SMALL --kind consistency --samples 16
        --filter 'consistency(above=0.7)' --out RUN
      pilotfish label RUN --weak SMALL --then MIDDLE --as chain
    """
    from pilotfish.config.recipe import command_settings
    from pilotfish.data.run_pool import is_run
    from pilotfish.labeling.label import label as label_pool

    folder = out_ or (recipe.data if is_run(recipe.data) else None)
    if folder is None:
        raise UsageError("`label` needs --out RUN, the folder to write to")
    typed = command_settings(set_ or [], only=("weak_train", "train"))
    recipe = recipe.model_copy(update={"weak_train": typed.weak_train, "train": typed.train})
    found = label_pool(
        recipe, settings, folder, name=as_, force=force, progress=Console(quiet=quiet)
    )
    if as_json:
        emit({"run": folder, "name": found.name, **_files(found), **found.facts})
        return
    _show(found)


def _files(found: "Labelled") -> dict[str, str]:
    stem = f"labels/{found.name}"
    return {"table": f"{stem}.parquet", "labelled": f"{stem}.jsonl"}


def _show(found: "Labelled") -> None:
    from pilotfish.labeling.table import STATUSES

    facts = found.facts
    # a manifest that was read back has its keys sorted
    counts = ", ".join(f"{status} {facts['counts'][status]:,}" for status in STATUSES)
    out(f"{found.name}: {facts['rows']:,} rows labelled {facts['kind']}: {counts}")
    for reason, n in facts["reasons"].items():
        out(f"  {n:,} {reason}")
    if facts["agreement"] is not None:
        out(
            f"agreement with the rows' own answers: {facts['agreement']:.3f} of "
            f"{facts['agreement_rows']:,} kept labels"
        )
    for name, summary in facts["filters"].items():
        out(f"{name}: {summary}")
    for sentence in facts["words"]:
        out(sentence)
    out(f"rows to learn from: {found.run.root}/{_files(found)['labelled']}")
