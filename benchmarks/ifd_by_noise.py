"""Why IFD keeps noise in the tiny world: its scores by kind of noise.

    python benchmarks/ifd_by_noise.py        # seconds

The dirty pool of another seed than the demo's, scored by the weak model as it ships. Per method and
kind of noise: how many rows, their median score, the share at or above the ceiling of 1 (never
kept), and the share among the 30% that are kept. Prints a markdown table.
"""

import json
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

from pilotfish.config import parse_method
from pilotfish.config.data import Source
from pilotfish.config.scoring import ScoreConfig
from pilotfish.demo.models import shipped
from pilotfish.demo.world import CHAPTERS, DEMO, build_world
from pilotfish.scoring.score import score
from pilotfish.selection.candidates import candidates_of
from pilotfish.selection.select import SelectConfig, select

SEED = 1000
METHODS = ("ifd", "superfiltering")


def main() -> None:
    print("| method | noise | rows | median | at or above 1 | of the kept |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        world = build_world(CHAPTERS[0], Path(folder) / "world", seed=SEED)
        root = Path(folder) / "run"
        methods = [parse_method(name) for name in METHODS]
        config = ScoreConfig(str(shipped("weak")), methods)
        run = score(str(root), Source(str(world.pool)), config)
        truth = world.truth.read_text(encoding="utf-8").splitlines()
        noise = np.array([json.loads(row)["noise"] for row in truth])  # [n] in pool order
        for method in METHODS:
            values = np.concatenate(
                [values for values, _ in candidates_of(run).score_column(method).shards()]
            )
            kept = noise[select(root, SelectConfig(method, DEMO.budget), force=True).order]
            for kind in dict.fromkeys(noise.tolist()):
                print(line(method, kind, values[noise == kind], float((kept == kind).mean())))


def line(method: str, kind: str, values: np.ndarray, kept: float) -> str:
    """One line of the table; `values` [m] are the scores of one kind of noise."""
    known = values[np.isfinite(values)]
    over = float((known >= 1).mean())
    return (
        f"| `{method}` | {kind or 'none'} | {len(values):,} | {median(known):.3f} "
        f"| {over:.0%} | {kept:.0%} |"
    )


if __name__ == "__main__":
    main()
