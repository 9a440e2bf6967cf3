"""Canary lift of every built-in method: `python -m benchmarks.canaries`.

Rows of two pools are changed in six ways and held against what each method keeps: the demo's dirty
pool with its tuned weak model, and rows of dolly with the 260K-parameter TinyStories model, which
is left out where `PILOTFISH_DATA` has neither. JSON out.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.machine import parser, settle, write
from benchmarks.rows import Dolly, corpus
from benchmarks.rows import write as write_rows
from benchmarks.trained import convert, short
from pilotfish.config import WeakTrainConfig, parse_method, parse_methods
from pilotfish.config.data import Source
from pilotfish.config.scoring import ScoreConfig
from pilotfish.demo.world import CHAPTERS, build_world
from pilotfish.demo.world import settings as demo_settings
from pilotfish.scoring.score import score
from pilotfish.selection.canaries.lift import measure_canaries
from pilotfish.selection.select import SelectConfig, select
from pilotfish.store import Run

SCORED = "superfiltering,ifd,perplexity(direction=low,end=true)"
METHODS = {
    "superfiltering": "superfiltering",
    "ifd": "ifd",
    "perplexity_low": "perplexity(direction=low,end=true)",
    "perplexity_middle": "perplexity(direction=middle,end=true)",
    "perplexity_high": "perplexity(direction=high,end=true)",
    "longest": "longest",
    "random": "random",
}


def demo(folder: Path, seed: int, *, quick: bool) -> Run:
    """The demo's dirty pool, read by its weak model, tuned on the trusted rows."""
    world = build_world(CHAPTERS[0], folder / "world", seed=seed)
    made = demo_settings(CHAPTERS[0], world, seed)
    config = ScoreConfig(
        made["weak"],
        parse_methods(SCORED),
        trusted=made["trusted"],
        max_length=made["max_length"],
        weak_train=WeakTrainConfig(**made["weak_train"]),
    )
    source = Source(made["data"], limit=400 if quick else None)
    return score(str(folder / "run"), source, config)


def dolly(folder: Path, seed: int, *, quick: bool) -> Run:
    """A random slice of dolly, read by a model of 260 thousand parameters."""
    source = corpus()
    assert isinstance(source, Dolly)
    parts, count = source.folder / "models/tinystories_260k", 200 if quick else 2_000
    convert(parts / "checkpoint_v1.bin", parts / "tokenizer.bin", folder / "weak")
    rows = [row for row in source.sample(3 * count, seed) if short(row.asked + row.response)]
    data = write_rows(rows[:count], folder / "dolly.jsonl")
    config = ScoreConfig(str(folder / "weak"), parse_methods(SCORED), max_length=512)
    return score(str(folder / "run"), Source(str(data)), config)


POOLS: dict[str, Callable[..., Run]] = {"demo": demo, "dolly": dolly}


def held(run: Run, rows: int, budget: str) -> dict[str, Any]:
    """What became of planted rows under every method, and the seconds it took."""
    for name, method in METHODS.items():
        select(run.root, SelectConfig(parse_method(method), budget, name=name, allow_short=True))
    begin = time.monotonic()
    found = measure_canaries(run.root, list(METHODS), rows)
    return {
        "pool": run.section("pool")["rows"],
        "weak": run.section("weak")["parameters"],
        "tuned": bool(run.section("weak")["trusted"]),
        "seconds": round(time.monotonic() - begin, 1),
        "methods": {METHODS[name]: one for name, one in found.items()},
    }


def pools(options: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each pool with what was found, or why it was not tried."""
    for name, make in POOLS.items():
        if name == "dolly" and not isinstance(corpus(), Dolly):
            yield name, {"absent": "PILOTFISH_DATA has no dolly"}
            continue
        with tempfile.TemporaryDirectory() as folder:
            run = make(Path(folder), options.seed, quick=options.quick)
            yield name, held(run, options.rows or (20 if options.quick else 100), options.budget)


def main() -> None:
    made = parser(__doc__ or "")
    made.add_argument("--rows", type=int, help="of each attack")
    made.add_argument("--budget", default="10%")
    options = made.parse_args()
    settle(options)
    write("canaries", options, {"budget": options.budget, "pools": dict(pools(options))})


if __name__ == "__main__":
    main()
