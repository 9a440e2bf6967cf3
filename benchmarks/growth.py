"""How time grows with rows and with length: `python -m benchmarks.growth`.

Rows: short ones through `pilotfish.score` with a small model, so that reading, tokenising and
committing show. Length: the same tokens in fewer, longer rows through a 124M GPT-2 shape, ours
against one row at a time.
"""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import pilotfish
from benchmarks.contenders import ONE, Stage
from benchmarks.machine import parser, settle, write
from benchmarks.ours import model_clock
from benchmarks.paired import race, speedup
from benchmarks.peers import work
from benchmarks.rows import Corpus, corpus
from benchmarks.rows import write as write_rows
from benchmarks.shapes import build, config
from pilotfish.models import TINY, set_threads

SHORT = (6, 18)  # tokens of prompt and response
ROWS = {"model": "llama-400k", "counts": (1_000, 10_000, 100_000)}
LENGTHS = {"model": "gpt2-124m", "lengths": (64, 128, 256, 512, 1024), "tokens": 4096}
QUICK_ROWS = {"model": "llama-400k", "counts": (1_000, 5_000)}
QUICK_LENGTHS = {"model": "llama-400k", "lengths": (64, 256, 1024), "tokens": 4096}


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    settle(options)
    source = corpus()
    rows, lengths = (QUICK_ROWS, QUICK_LENGTHS) if options.quick else (ROWS, LENGTHS)
    write("growth", options, {
        "corpus": source.name,
        "rows_model": rows["model"],
        "row_tokens": sum(SHORT),
        "rows": [by_rows(count, rows["model"], source, options.seed) for count in rows["counts"]],
        "lengths_model": lengths["model"],
        "lengths": by_length(source, options.seed, **lengths),
    })  # fmt: skip


def by_rows(count: int, model: str, source: Corpus, seed: int) -> dict[str, Any]:
    """Seconds of reading and scoring so many short rows, and what of it was not the model."""
    prompts, responses = (np.full(count, tokens) for tokens in SHORT)
    with tempfile.TemporaryDirectory() as folder, model_clock() as spent:
        weak, run = Path(folder, "weak"), Path(folder, "run")
        build(model, weak, source.tokenizer(config(model).vocab_size), seed=seed)
        rows = source.of_lengths(prompts, responses, seed)
        data = write_rows(rows, Path(folder, "rows.jsonl"))
        begin = time.perf_counter()
        pool = pilotfish.read(data, out=run)
        read = time.perf_counter() - begin
        pilotfish.score(pool, weak=weak, method="superfiltering", precision="fp32")
        whole = time.perf_counter() - begin
    return {
        "rows": count,
        "seconds": round(whole, 2),
        "read_seconds": round(read, 2),
        "model_seconds": round(sum(spent), 2),
        "not_model": round(1 - sum(spent) / whole, 4),
        "rows_per_second": round(count / whole, 1),
    }


def by_length(
    source: Corpus, seed: int, *, model: str, lengths: tuple[int, ...], tokens: int
) -> list[dict[str, Any]]:
    """Tokens per second of equal work cut into rows of each length, a quarter of it prompt."""
    set_threads(TINY)  # the rows before were read by a tiny model, on one thread
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        tokenizer = source.tokenizer(config(model).vocab_size)
        build(model, place / "model", tokenizer, seed=seed)
        return [
            one_length(length, place, source.of_lengths(*quarters(length, tokens), seed), tokenizer)
            for length in lengths
        ]


def quarters(length: int, tokens: int) -> tuple[Any, Any]:
    """Prompt and response tokens of as many rows of `length` as make up `tokens`."""
    count = max(tokens // length, 1)
    # The line feed between the two is a token of the row.
    return np.full(count, length // 4 - 1), np.full(count, length - length // 4)


def one_length(length: int, place: Path, rows: list[Any], tokenizer: Any) -> dict[str, Any]:
    """Ours and one row at a time, in turns."""
    data = write_rows(rows, place / f"{length}.jsonl")
    stage = Stage(place / "model", data, tuple(rows), place / str(length), length)
    both = {name: stage.make(name) for name in (ONE, "ours_fp32")}
    times = race(both, 2)
    read, _ = work(rows, tokenizer, length)
    return {
        "length": length,
        "rows": len(rows),
        **{f"{name}_tokens_per_second": round(read / median(times[name].rounds)) for name in both},
        "ratio": speedup(times[ONE], times["ours_fp32"]).as_dict(),
    }


if __name__ == "__main__":
    main()
