"""`pilotfish compare`: arms from a recipe, from finished runs, or from files judged elsewhere."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from pilotfish.cli.options import Force, Json, Quiet, Set
from pilotfish.errors import UsageError

RECIPES = (".yaml", ".yml")


def compare(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE.yaml | RUN..]", help="One recipe, or the run folders to join."
        ),
    ] = None,
    results: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ARM:SEED=FILE",
            help="Judged items of a model trained elsewhere, ours or lm-eval's; more of the same "
            "kind may follow.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which metric, where the files hold several."),
    ] = None,
    lower_is_better: Annotated[
        bool,
        typer.Option("--lower-is-better", help="Less is better, for a metric not known here."),
    ] = False,
    margin: Annotated[
        float | None, typer.Option(help="Differences inside +- this count as equivalent.")
    ] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="A non-inferiority gate, as safe(arm=selected, against=base, margin=0.02); may "
            "be repeated.",
        ),
    ] = None,
    arm: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The arm the verdict is on; default: selected."),
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its rival; default: random.")
    ] = None,
    out_: Annotated[
        str | None,
        typer.Option("--out", metavar="RUN", help="The run folder; default: runs/<recipe name>."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="What the split and every draw start from; default: 0.")
    ] = None,
    set_: Set = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare the arms of a recipe, of runs, or of judged files.

    An ordinary recipe compares its arms over seeds, `budgets` and `methods`, as `run` does, and
    prints them all. With `experiment: weak_to_strong` it compares floor, ceiling and students: a
    weak model learns one half of the rows and labels the other half, on which strong models learn.
    PGR is the share of the gap between floor and ceiling that a student recovers.

    \b
    Examples:
      pilotfish compare recipe.yaml --set 'budgets=[5%,10%,20%]' --out runs/grid
      pilotfish compare examples/w2s_sst2.yaml --out runs/w2s
      pilotfish compare runs/a runs/b --out runs/both
      pilotfish compare --results selected:0=s0.jsonl random:0=r0.jsonl --out runs/elsewhere
    """
    given = what or []
    if results is None and len(given) == 1 and given[0].endswith(RECIPES):
        from pilotfish.cli.compare_recipe import compare_recipe

        judging = {
            "--metric": metric, "--lower-is-better": lower_is_better, "--margin": margin,
            "--gate": gate, "--arm": arm, "--against": against,
        }  # fmt: skip
        _without(judging, "a recipe says that itself", "write it there, or type --set NAME=VALUE")
        compare_recipe(
            given[0], out_, seed=seed, set_=set_, force=force, as_json=as_json, quiet=quiet
        )
        return
    settings = {"--seed": seed, "--set": set_}
    _without(settings, "it is for recipes", "what was judged already stays as it is")
    from pilotfish.cli.compare_results import compare_results
    from pilotfish.flows.outside import Asked

    asked = Asked(
        metric=metric, lower_is_better=lower_is_better, margin=margin, gates=gate or [],
        arm=arm, against=against,
    )  # fmt: skip
    compare_results(given, results or [], out_, asked=asked, force=force, as_json=as_json)


def _without(options: Mapping[str, Any], why: str, hint: str) -> None:
    """UsageError for an option that would be read by nothing."""
    for name, value in options.items():
        if value not in (None, False, []):
            raise UsageError(f"`compare` cannot heed {name} here: {why}", hint=hint)
