"""The trained models at hand, as ordinary folders, and rows that suit them."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.rows import Dolly, corpus
from benchmarks.rows import write as write_rows
from benchmarks.taught import KEPT, SHAPE, STEPS, taught
from pilotfish.demo.build import build
from pilotfish.demo.models import shipped

sys.path.append(str(ROOT / "examples"))
from convert_tinystories import convert

DOLLY_ROWS = 14_900  # of 14,989


@dataclass(frozen=True)
class Trained:
    """A model folder, rows for it, and where both come from."""

    name: str
    model: Path
    data: Path
    of: str


def trained(folder: Path, count: int, seed: int, *, quick: bool = False) -> Iterator[Trained]:
    """Every trained model at hand; working files go into `folder`.

    quick: the one that is taught here gets two steps, so that the path is walked.
    """
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
        data = write_rows(rows[:count], folder / "stories.jsonl")
        yield Trained("tinystories-260k", folder / "stories", data, "TinyStories, on dolly rows")
        steps, kept = (2, folder / "taught") if quick else (STEPS, KEPT)
        model, most = taught(kept, source, seed, steps), DOLLY_ROWS
        data = write_rows(source.sample(min(count, most), seed + 1), folder / "dolly.jsonl")
        yield Trained(SHAPE, model, data, f"{steps} steps on dolly, on dolly rows")


def short(text: str) -> bool:
    """Whether a text stays within the 512 positions of the stories model, pieces being short."""
    return len(text) < 900
