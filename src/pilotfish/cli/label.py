"""`pilotfish label`: the weak model writes the answers."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotfish.cli.console import Console, emit, out
from pilotfish.cli.options import (
    Config,
    Force,
    Json,
    Limit,
    Map,
    MaxBadRate,
    Quiet,
    Revision,
    Set,
    Split,
    Trusted,
    TrustRemoteCode,
    Weak,
    parse_map,
    parse_names,
)  # fmt: skip
from pilotfish.errors import UsageError

if TYPE_CHECKING:
    from pilotfish.labeling.label import Labelled


def label(
    data: Annotated[
        str, typer.Argument(metavar="DATA|RUN", help="The rows, or a run that holds them.")
    ],
    weak: Weak,
    out_: Annotated[
        str | None, typer.Option("--out", metavar="RUN", help="The run folder to write to.")
    ] = None,
    as_: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Their name; default: the kind.")
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="hard: the greedy answer, or the likeliest class; soft: probabilities of the "
            "classes; consistency: the most frequent of sampled answers.",
        ),
    ] = "hard",
    classes: Annotated[
        str | None,
        typer.Option(metavar="NAME,..", help="The answers there are; default: the data's labels."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Of consistency: answers per row.")] = 8,
    temperature: Annotated[float, typer.Option(help="Of consistency.")] = 0.7,
    abstain_below: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Set labels aside whose confidence is lower."),
    ] = None,
    filter_: Annotated[
        str | None,
        typer.Option(
            "--filter",
            metavar="METHOD,..",
            help="Which labels to keep, one filter after the other: confidence(keep=0.8), "
            "consistency(above=0.5), knn(k=20, keep=0.8), trust(keep=0.8).",
        ),
    ] = None,
    folds: Annotated[
        int,
        typer.Option(
            help="Tune one model per fold, on the trusted rows of the others (without --trusted: "
            "on the pool's own answers); it labels the fold that it did not see."
        ),
    ] = 0,
    trusted: Trusted = None,
    tune: Annotated[
        bool,
        typer.Option(
            "--tune/--no-tune",
            help="Whether the weak model is tuned on the trusted rows, or they only serve the "
            "filter trust.",
        ),
    ] = True,
    head: Annotated[
        bool | None,
        typer.Option(
            "--head/--no-head",
            help="Whether the models answer by a classification head; default: those that have "
            "one, and those that write no text.",
        ),
    ] = None,
    then: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL,..",
            help="Each is trained on the labels of the one before, in folds, and labels anew.",
        ),
    ] = None,
    refill: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Train it on the labels kept, in folds; hard rows come back where it agrees.",
        ),
    ] = None,
    refill_rule: Annotated[
        str,
        typer.Option(metavar="METHOD", help="How many, and how hard: refill(quota=.., floor=..)."),
    ] = "refill",
    max_new_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Room for a free answer; default: what the data's own take."),
    ] = None,
    max_length: Annotated[
        int, typer.Option(min=2, help="Tokens of a row with a candidate answer.")
    ] = 1024,
    limit: Limit = None,
    max_bad_rate: MaxBadRate = 0.01,
    map_: Map = None,
    dataset_config: Config = None,
    split: Split = None,
    revision: Revision = None,
    seed: Annotated[int, typer.Option(help="Of folds, samples, tuning and training.")] = 0,
    set_: Set = None,
    force: Force = False,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let the weak model write the answer of every row (label mode).

    Writes RUN/labels/NAME.parquet: of every row the label, its confidence, whether it stands and
    why not; and NAME.jsonl: the rows whose label stands, as they came, with it in the place of
    their own answer. The same command again labels only what is missing.

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
    from pilotfish.config.data import Source
    from pilotfish.data.run_pool import is_run
    from pilotfish.labeling.label import label as flow
    from pilotfish.labeling.label import settings
    from pilotfish.labeling.settings import LabelConfig, Models

    folder = out_ or (data if is_run(data) else None)
    if folder is None:
        raise UsageError("`label` needs --out RUN, the folder to write to")
    tuning, training = settings(set_ or [])
    how = LabelConfig(
        kind, classes=tuple(parse_names(classes)) or None, samples=samples,
        temperature=temperature, abstain=abstain_below, filters=_methods(filter_), folds=folds,
        seed=seed, max_new_tokens=max_new_tokens, max_length=max_length,
    )  # fmt: skip
    models = Models(
        weak, tune, tuple(parse_names(then)), refill, _rule(refill_rule), tuning, training, head
    )
    source = Source(data, parse_map(map_), limit, max_bad_rate, dataset_config, split, revision)
    found = flow(
        source, models, folder, how, name=as_, trusted=trusted, force=force,
        progress=Console(quiet=quiet),
    )  # fmt: skip
    if as_json:
        emit({"run": folder, "name": found.name, **_files(found), **found.facts})
        return
    _show(found)


def _methods(text: str | None) -> tuple[str, ...]:
    from pilotfish.config import parse_methods

    return tuple(method.text for method in parse_methods(text)) if text else ()


def _rule(text: str) -> Any:
    from pilotfish.config import parse_method
    from pilotfish.errors import unknown_name
    from pilotfish.labeling.filters import Refill

    method = parse_method(text)
    if method.name != "refill":
        raise unknown_name("rule of --refill-rule", method.name, ["refill"])
    known = Refill.__dataclass_fields__
    for name, value in method.args.items():
        if name not in known:
            raise unknown_name("setting of refill", name, known)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError(f"refill: {name}={value!r} is no number")
    return Refill(**method.args)


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
            f"{facts['agreement_rows']:,} labels that stand"
        )
    for name, told in facts["filters"].items():
        out(f"{name}: {told}")
    for sentence in facts["words"]:
        out(sentence)
    out(f"rows to learn from: {found.run.root}/{_files(found)['labelled']}")
