"""`demo`: run two generated worlds as ordinary recipes, and compare with the known truth."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pilotfish.config import make_recipe, read_recipe
from pilotfish.data.run_pool import pool_of
from pilotfish.errors import need_torch
from pilotfish.experiments.run import run_experiment
from pilotfish.progress import SILENT, Progress
from pilotfish.selection.files import kept_of


@dataclass(frozen=True)
class ChapterResult:
    """The finished run of one pool, with the figures that only a generated world can give.

    Attributes:
        name: Name of the pool.
        folder: The run folder.
        rates: Noise name -> share of the pool.
        right_in_pool: Share of pool rows whose answer is the true one.
        right_in_selected: The same among the selected rows.
        report: Content of report.json.
    """

    name: str
    folder: str
    rates: Mapping[str, float]
    right_in_pool: float
    right_in_selected: float
    report: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for `--json`."""
        return {
            "name": self.name,
            "run": self.folder,
            "report": f"{self.folder}/report.html",
            "noise": dict(self.rates),
            "right_in_pool": self.right_in_pool,
            "right_in_selected": self.right_in_selected,
            "verdict": self.report["verdict"],
            "arms": self.report["arms"],
        }

    def lines(self) -> list[str]:
        """Return the result as text: right answers, the table of arms, the verdict and notes."""
        lines = [
            "",
            f"== {self.name} pool: {_rates_text(self.rates)}",
            f"right answers: {self.right_in_pool:.0%} of the pool, "
            f"{self.right_in_selected:.0%} of the selected rows",
            "",
            f"{'arm':<18} {'rows':>6} {'steps':>6} {'mean':>7}   95% interval",
        ]
        for arm in sorted(self.report["arms"], key=lambda arm: -(arm["mean"] or 0.0)):
            rows, steps = (
                "-" if arm[key] is None else f"{arm[key]:,}" for key in ("rows", "steps")
            )
            interval = "one seed: none"
            if arm["low"] is not None:
                interval = f"[{arm['low']:.3f}, {arm['high']:.3f}]"
            lines.append(f"{arm['name']:<18} {rows:>6} {steps:>6} {arm['mean']:>7.3f}   {interval}")
        lines += ["", self.report["verdict"]["sentence"]]
        lines += [note["sentence"] for note in self.report["notes"]]
        return [*lines, f"report: {self.folder}/report.html"]


@dataclass(frozen=True)
class Story:
    """The results of both chapters, and the seconds that they took."""

    chapters: Sequence[ChapterResult]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for `--json`."""
        return {"chapters": [part.as_dict() for part in self.chapters], "seconds": self.seconds}

    def lines(self) -> list[str]:
        """Return the story as text."""
        lines = [line for part in self.chapters for line in part.lines()]
        return [*lines, f"finished in {self.seconds:.0f} seconds"]


def run_demo(out: str, *, seed: int = 0, progress: Progress = SILENT) -> Story:
    """Generate the dirty and the clean world, run both, and compare with the truth.

    Args:
        out: The folder of worlds, recipes and runs.
        seed: Seed of the worlds and of the runs.
        progress: Receives notes and finished steps.
    """
    need_torch("the demo", extra="train")
    from pilotfish.demo.world import CHAPTERS, build_world, settings

    start = time.monotonic()
    results = []
    for chapter in CHAPTERS:
        folder = Path(out) / chapter.name
        world = build_world(chapter, folder / "world", seed=seed)
        progress.note(f"{chapter.name} world: {_rates_text(world.rates)}")
        recipe = folder / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(settings(chapter, world, seed), sort_keys=False))
        run = run_experiment(
            make_recipe(read_recipe(recipe)), str(folder / "run"), progress=progress
        )
        right = world.right()
        in_pool = [right[str(id_)] for id_ in pool_of(run).columns("id")["id"]]
        selected = [in_pool[i] for i in kept_of(run, "selected")]
        report = run.store.read_json("report.json") or {}
        results.append(
            ChapterResult(
                chapter.name,
                str(run.root),
                world.rates,
                sum(in_pool) / len(in_pool),
                sum(selected) / len(selected),
                report,
            )
        )
    return Story(results, time.monotonic() - start)


def _rates_text(rates: Mapping[str, float]) -> str:
    if not rates:
        return "no noise"
    return ", ".join(f"{name} {rate:.0%}" for name, rate in rates.items())
