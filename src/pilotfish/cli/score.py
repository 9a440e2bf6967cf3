"""`pilotfish score`: measure with the weak model, one column per method."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from pilotfish.cli.console import Console, emit, out
from pilotfish.cli.options import (
    Config,
    Direction,
    Force,
    Json,
    Limit,
    Map,
    MaxBadRate,
    MaxLength,
    Out,
    Precision,
    Quiet,
    Revision,
    Set,
    Split,
    Trusted,
    TrustRemoteCode,
    parse_map,
    parse_names,
)  # fmt: skip
from pilotfish.errors import UsageError

if TYPE_CHECKING:
    from pilotfish.scoring.cascade_rows import CascadeConfig


def score(
    data: Annotated[str, typer.Argument(metavar="DATA|RUN", help="The rows, or a run to add to.")],
    weak: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="The small model that measures: a folder or hub id."),
    ] = None,
    method: Annotated[
        str | None, typer.Option(metavar="METHOD[,METHOD..]", help="See `pilotfish methods`.")
    ] = None,
    out_: Out = None,
    as_: Annotated[
        str | None, typer.Option("--as", metavar="NAME,..", help="Column names, one per method.")
    ] = None,
    trusted: Trusted = None,
    direction: Direction = None,
    max_length: MaxLength = None,
    precision: Precision = "auto",
    limit: Limit = None,
    max_bad_rate: MaxBadRate = 0.01,
    map_: Map = None,
    dataset_config: Config = None,
    split: Split = None,
    revision: Revision = None,
    seed: Annotated[int, typer.Option(help="Of tuning the weak model on the trusted rows.")] = 0,
    set_: Set = None,
    cascade: Annotated[
        str | None,
        typer.Option(
            metavar="CHEAP",
            help="A cheaper model scores every row, --weak only where its picks may lie: not the "
            "same rows, but a recall that is aimed at and measured. Needs --budget.",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="BUDGET", help="Of --cascade: what is going to be kept, in % or rows."
        ),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(help="Of --cascade: share of the picks to be found; default: 0.95."),
    ] = None,
    executor: Annotated[
        str,
        typer.Option(metavar="NAME", help="Who measures: local, ray (an extra) or ranks."),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes of this machine, or Ray actors; default: one per GPU."),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(help="Of ranks: which one this is; default: asked of the launcher."),
    ] = None,
    world: Annotated[int | None, typer.Option(min=1, help="Of ranks: how many there are.")] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Only write the scores that ranks have measured.")
    ] = False,
    force: Force = False,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure every row with the weak model and score it.

    Writes RUN/scores.parquet: per method a value, or `unscorable` with a reason. The same
    command again measures only what is unfinished; scoring a RUN by another method adds columns.

    \b
    Examples:
      pilotfish score rows.jsonl --weak SMALL --method superfiltering --out RUN
      pilotfish score RUN --weak SMALL --method 'ifd,perplexity(direction=low)'
      pilotfish score rows.jsonl --weak SMALL --method ifd --out RUN --workers 4
      pilotfish score rows.jsonl --weak SMALL --method ifd --out RUN --executor ray
      pilotfish score rows.jsonl --weak SMALL --cascade TINY --budget 10% --method ifd --out RUN
      torchrun --nproc-per-node 4 -m pilotfish score rows.jsonl --weak SMALL --method ifd
        --out RUN --executor ranks
      pilotfish score RUN --merge
    """
    from pilotfish.config import parse_methods
    from pilotfish.config.data import Source
    from pilotfish.config.recipe import tuning
    from pilotfish.config.scoring import ScoreConfig
    from pilotfish.data.run_pool import is_run
    from pilotfish.engine.executors.launch import ExecutorConfig
    from pilotfish.scoring.audit import audit_sentences
    from pilotfish.scoring.multi_rank import merge as write_merged
    from pilotfish.scoring.score import score as flow

    folder = out_ or (data if is_run(data) else None)
    if folder is None:
        raise UsageError("`score` needs --out RUN, the folder to write to")
    if merge:
        run = write_merged(folder)
    else:
        source = Source(data, parse_map(map_), limit, max_bad_rate, dataset_config, split, revision)
        how = ScoreConfig(max_length, precision, seed, tune=tuning(set_))
        cheaper = _cheaper(cascade, budget, recall)
        if cheaper is not None:
            from pilotfish.selection.cascade import score_cascade

            flow = partial(score_cascade, cheaper=cheaper)
        run = flow(
            folder, source, _given(weak, "--weak MODEL"),
            parse_methods(_given(method, "--method METHOD")), names=parse_names(as_),
            trusted=trusted, direction=direction, measuring=how,
            spread=ExecutorConfig(executor, workers, rank, world), force=force,
            progress=Console(quiet=quiet),
        )  # fmt: skip
    told = {"run": folder, "pool": run.section("pool"), "scores": run.section("scores")}
    if as_json:
        emit(told)
        return
    scores = run.section("scores")
    for name, facts in scores.items():
        bad = ", ".join(f"{why} {count:,}" for why, count in facts["unscorable"].items())
        out(f"{name}: {facts['scorable']:,} rows scored, unscorable: {bad or 'none'}")
        for sentence in audit_sentences(facts["cascade"]) if "cascade" in facts else ():
            out(sentence)
    first = next((name for name in scores if "cascade" in scores[name]), next(iter(scores)))
    out(f"next: pilotfish select {folder} --method '{first}' --budget {budget or '10%'}")


def _cheaper(
    cascade: str | None, budget: str | None, recall: float | None
) -> "CascadeConfig | None":
    from pilotfish.budget import parse_budget

    if cascade is None:
        if (budget, recall) != (None, None):
            raise UsageError(
                "--budget and --recall say what a cascade is to find, and --cascade is not given",
                hint="the budget of a selection belongs to `pilotfish select`",
            )
        return None
    if budget is None:
        raise UsageError(
            "--cascade needs --budget: only the best rows are looked for",
            hint="--budget 10%, or as many rows as will be selected: --budget 500rows",
        )
    from pilotfish.scoring.cascade_rows import RECALL, CascadeConfig

    return CascadeConfig(cascade, parse_budget(budget), RECALL if recall is None else recall)


def _given(value: str | None, option: str) -> str:
    if value is None:
        raise UsageError(f"`score` needs {option}", hint="only --merge does without")
    return value
