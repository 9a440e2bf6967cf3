"""Scoring throughput against one row at a time and padded batching: `python -m benchmarks.engine`.

Superfiltering's two passes over real rows with a 124M GPT-2 and a 135M Llama shape. All contenders
take turns in one process; ratios are of neighbouring runs. Loading is not timed, the first run of
each is reported apart, and peak memory is that of a process of its own.
"""

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contenders import NAMES, ONE, OURS, Stage
from benchmarks.flops import peaks, plain, useful
from benchmarks.footprint import footprint
from benchmarks.machine import parser, settle, write
from benchmarks.ours import Ours, padding
from benchmarks.paired import Times, race, speedup
from benchmarks.peers import Padded, work
from benchmarks.rank import agreement
from benchmarks.rows import Corpus, corpus
from benchmarks.rows import write as write_rows
from benchmarks.shapes import build, config
from pilotfish.errors import UsageError

MAX_LENGTH = 512  # as published
PLAN_ROWS = 2000  # a shard: what padding is counted over
DEFAULTS = {"rows": 40, "repeats": 5, "shapes": "gpt2-124m,llama-135m"}
QUICK = {"rows": 8, "repeats": 2, "shapes": "gpt2-124m"}
SELDOM = ("padded_8", "sorted_16", "ours_bf16")  # in two rounds only


def main() -> None:
    made = parser(__doc__ or "")
    made.add_argument("--rows", type=int)
    made.add_argument("--repeats", type=int)
    made.add_argument("--shapes")
    made.add_argument("--without", default="", help="contenders to leave out, by commas")
    options = made.parse_args()
    for name, value in (QUICK if options.quick else DEFAULTS).items():
        setattr(options, name, getattr(options, name) or value)
    settle(options)
    before, source = peaks(), corpus()
    models = {}
    for name in options.shapes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            # Compiled code of earlier runs would hide what compiling costs.
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(folder) / "compiled")
            models[name] = one_shape(name, source, Path(folder), options)
    after = peaks()
    best = {kind: max(before[kind], after[kind]) for kind in before}
    for found in models.values():
        shares_of_peak(found, best)
    write("engine", options, {
        "rows": options.rows, "repeats": options.repeats, "max_length": MAX_LENGTH,
        "corpus": source.name,
        "peak_gflops": {kind: round(speed / 1e9, 1) for kind, speed in best.items()},
        "models": models,
    })  # fmt: skip


def one_shape(
    name: str, source: Corpus, folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Everything about one model."""
    tokenizer = source.tokenizer(config(name).vocab_size)
    shape = build(name, folder / "model", tokenizer, seed=options.seed)
    rows = tuple(source.sample(options.rows, options.seed))
    data = write_rows(rows, folder / "rows.jsonl")
    stage = Stage(folder / "model", data, rows, folder, MAX_LENGTH)
    contenders, absent = make_all(stage, options.without.split(","))
    times = race(contenders, options.repeats, seldom=SELDOM)
    numbers = {each: contender.numbers() for each, contender in contenders.items()}
    tokens, scored = work(rows, tokenizer, MAX_LENGTH)
    facts = {
        "parameters": shape.body + shape.vocab * shape.width,
        "tokens": tokens,
        "scored_tokens": scored,
        "flops_useful": useful(shape, tokens, scored),
        "flops_plain": plain(shape, tokens),
        "absent": absent,
        "token_budget": {name: c.token_budget for name, c in contenders.items() if name in OURS},
        "padding": paddings(name, source, folder / "plan", contenders, options.seed),
    }
    contenders.clear()  # before others are started: they need the memory
    facts["contenders"] = {
        each: {
            **speed(times[each], times[ONE], len(rows), tokens),
            "agreement": agreement(numbers[ONE], numbers[each]),
            "memory": footprint(each, stage, threads=options.threads),
        }
        for each in times
    }
    return facts


def make_all(stage: Stage, without: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Contenders by name, and why others cannot take part here."""
    made: dict[str, Any] = {}
    absent: dict[str, str] = {}
    for name in (each for each in NAMES if each not in without):
        try:
            made[name] = stage.make(name)
        except UsageError as error:
            absent[name] = str(error)
    return made, absent


def speed(mine: Times, base: Times, rows: int, tokens: int) -> dict[str, Any]:
    """Tokens and examples per second of the median round, and the ratio to the base."""
    usual = median(mine.rounds)
    return {
        "seconds": [round(each, 3) for each in mine.rounds],
        "start_up_seconds": round(mine.start_up, 2),
        "tokens_per_second": round(tokens / usual, 1),
        "examples_per_second": round(rows / usual, 2),
        "ratio": speedup(base, mine).as_dict(),
    }


def paddings(
    name: str, source: Corpus, folder: Path, contenders: Mapping[str, Any], seed: int
) -> dict[str, float]:
    """Padding of each batched contender: of ours over a shard, by a tiny model of equal batches."""
    found = {each: c.padding() for each, c in contenders.items() if isinstance(c, Padded)}
    build(name, folder, source.tokenizer(config(name).vocab_size), seed=seed, tiny=True)
    data = write_rows(source.sample(PLAN_ROWS, seed), folder / "rows.jsonl")
    ours = Ours(folder, data, folder / "run", precision="fp32", max_length=MAX_LENGTH)
    found["ours"] = padding(ours)
    return {each: round(value, 4) for each, value in found.items()}


def shares_of_peak(model: dict[str, Any], best: Mapping[str, float]) -> None:
    """Put into every contender what share of its format's matrix-product peak it reaches."""
    for name, found in model["contenders"].items():
        peak = best.get(OURS.get(name, "fp32"))
        for way in ("useful", "plain"):
            rate = model[f"flops_{way}"] / median(found["seconds"])
            found[f"share_of_peak_{way}"] = None if peak is None else round(rate / peak, 4)


if __name__ == "__main__":
    main()
