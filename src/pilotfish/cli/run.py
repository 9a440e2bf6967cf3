"""`pilotfish run`: raw rows to report in one command, from a recipe or from options."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotfish.cli.console import Console, emit, exit_by_gates, out
from pilotfish.cli.options import READING, FieldOption, Force, Json, Quiet, recipe_options

if TYPE_CHECKING:
    from pilotfish.config import Recipe


@recipe_options(
    FieldOption("data", metavar="RECIPE.yaml|DATA", help="A recipe, or rows."),
    "weak",
    "strong",
    FieldOption(
        "budget",
        metavar="BUDGET[,..]",
        help="How much to keep: 10% of all pool rows, 500rows or 2Mtokens. Of several, the verdict "
        "is about the first.",
    ),
    "method",
    "direction",
    "trusted",
    "test",
    "metric",
    "evidence",
    "seeds",
    "out",
    *READING,
    "max_length",
    "precision",
    "allow_short",
    "seed",
    "trust_remote_code",
    whole=True,
)
def run(
    recipe: "Recipe", force: Force = False, as_json: Json = False, quiet: Quiet = False
) -> None:
    """Run every step: score, select, train, evaluate, report.

    The price of every evidence level is printed before anything is trained. The same command again
    continues where it stopped. A claim needs --evidence full with 3 seeds; with less, the verdict
    is only an indication. Options win over the recipe.

    \b
    Examples:
      pilotfish run rows.jsonl --weak SMALL --strong LARGE --budget 10%
      pilotfish run rows.jsonl --weak SMALL --strong LARGE --evidence full --test test.jsonl
      pilotfish run recipe.yaml --set train.max_steps=200 --out runs/short
    """
    from pilotfish.experiments.run import run_experiment

    folder = recipe.out or default_out(recipe.data)
    done = run_experiment(recipe, folder, force=force, progress=Console(quiet=quiet))
    report = done.store.read_json("report.json") or {}
    if as_json:
        verdict: dict[str, Any] = {
            key: report[key] for key in ("verdict", "gates") if key in report
        }
        emit({"run": folder, "report": f"{folder}/report.html", **verdict})
    else:
        out(report["verdict"]["sentence"])
        out(f"report: {folder}/report.html")
    exit_by_gates(report)


def default_out(data: str) -> str:
    """Return `runs/<name of the data>` below the current folder."""
    name = Path(data.rstrip("/")).name.split(".")[0] or "run"
    return f"runs/{name.replace('*', 'all')}"
