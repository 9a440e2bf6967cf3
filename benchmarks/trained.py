"""The trained models at hand, as ordinary folders, and rows that suit them."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.rows import Dolly, corpus
from benchmarks.rows import write as write_rows
from pilotfish.world.build import build
from pilotfish.world.models import shipped

sys.path.append(str(ROOT / "examples"))
from convert_tinystories import convert


@dataclass(frozen=True)
class Trained:
    """A model folder, rows for it, and where both come from."""

    name: str
    model: Path
    data: Path
    of: str


def trained(folder: Path, count: int, seed: int) -> Iterator[Trained]:
    """Every trained model at hand; working files go into `folder`."""
    world = build(
        folder / "world", seed=seed, pool_rows=count, dirty="dirty", trusted_rows=2, test_rows=2
    )
    for name in ("weak", "strong"):
        yield Trained(f"world-{name}", shipped(name), world.pool, "shipped, on its dirty pool")
    source = corpus()
    if isinstance(source, Dolly):
        parts = source.folder / "models/tinystories_260k"
        convert(parts / "checkpoint_v1.bin", parts / "tokenizer.bin", folder / "stories")
        rows = [
            row
            for row in source.sample(min(4 * count, 14_000), seed)
            if short(row.asked + row.response)
        ]
        data = write_rows(rows[: min(count, 5000)], folder / "stories.jsonl")
        yield Trained("tinystories-260k", folder / "stories", data, "TinyStories, on dolly rows")


def short(text: str) -> bool:
    """Whether a text stays within the 512 positions of the stories model, pieces being short."""
    return len(text) < 900
