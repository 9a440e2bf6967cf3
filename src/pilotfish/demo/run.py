"""demo: a generator and two recipes; everything else is the same `run` as everyone's."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pilotfish.config import make_recipe, read_recipe
from pilotfish.data.run_pool import pool_of
from pilotfish.experiments.run import run_experiment
from pilotfish.extras import need_torch
from pilotfish.progress import SILENT, Progress
from pilotfish.selection.files import kept_of
from pilotfish.store import Run


@dataclass(frozen=True)
class Chapter:
    """One pool's run and what is known because the world is generated."""

    name: str
    folder: str
    rates: dict[str, float]
    right_in_pool: float  # share of pool rows whose answer is the true one
    right_in_selected: float
    report: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "name": self.name,
            "run": self.folder,
            "report": f"{self.folder}/report.html",
            "noise": self.rates,
            "right_in_pool": self.right_in_pool,
            "right_in_selected": self.right_in_selected,
            "verdict": self.report["verdict"],
            "arms": self.report["arms"],
        }


@dataclass(frozen=True)
class Story:
    """Everything the demo found out."""

    chapters: Sequence[Chapter]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"chapters": [part.as_dict() for part in self.chapters], "seconds": self.seconds}

    def lines(self) -> list[str]:
        """For people."""
        told = [line for part in self.chapters for line in _told(part)]
        return [*told, f"told in {self.seconds:.0f} seconds"]


def run_demo(out: str, *, seed: int = 0, progress: Progress = SILENT) -> Story:
    """Generate the dirty and the clean world below `out`, run both, and hold them to the truth."""
    need_torch("the demo", extra="train")
    from pilotfish.demo.world import CHAPTERS, build_world, settings

    start = time.monotonic()
    chapters = []
    for chapter in CHAPTERS:
        folder = Path(out) / chapter.name
        world = build_world(chapter, folder / "world", seed=seed)
        progress.note(f"{chapter.name} world: {_rates(world.rates)}")
        recipe = folder / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(settings(chapter, world, seed), sort_keys=False))
        run = run_experiment(
            make_recipe(read_recipe(recipe)), str(folder / "run"), progress=progress
        )
        chapters.append(_chapter(run, chapter.name, dict(world.rates), world.right()))
    return Story(chapters, time.monotonic() - start)


def _chapter(run: Run, name: str, rates: dict[str, float], right: dict[str, bool]) -> Chapter:
    pool = pool_of(run)
    ids = [str(value) for value in pool.columns("id")["id"]]
    kept = kept_of(run, "selected")
    return Chapter(
        name=name,
        folder=str(run.root),
        rates=rates,
        right_in_pool=sum(right[each] for each in ids) / len(ids),
        right_in_selected=sum(right[ids[i]] for i in kept) / len(kept),
        report=run.store.read_json("report.json") or {},
    )


def _told(part: Chapter) -> list[str]:
    lines = [
        "",
        f"== {part.name} pool: {_rates(part.rates)}",
        f"right answers: {part.right_in_pool:.0%} of the pool, "
        f"{part.right_in_selected:.0%} of what the weak model picked",
        "",
        f"{'arm':<18} {'rows':>6} {'steps':>6} {'mean':>7}   95% interval",
    ]
    for arm in sorted(part.report["arms"], key=lambda arm: -(arm["mean"] or 0.0)):
        lines.append(_row(arm))
    lines += ["", part.report["verdict"]["sentence"]]
    lines += [note["sentence"] for note in part.report["notes"]]
    return [*lines, f"report: {part.folder}/report.html"]


def _row(arm: dict[str, Any]) -> str:
    interval = (
        f"[{arm['low']:.3f}, {arm['high']:.3f}]" if arm["low"] is not None else "one seed: none"
    )
    figures = [_figure(arm["rows"], 6), _figure(arm["steps"], 6)]
    return f"{arm['name']:<18} {' '.join(figures)} {arm['mean']:>7.3f}   {interval}"


def _figure(value: int | None, width: int) -> str:
    return f"{'-' if value is None else f'{value:,}':>{width}}"


def _rates(rates: Mapping[str, float]) -> str:
    if not rates:
        return "no noise"
    return ", ".join(f"{name} {rate:.0%}" for name, rate in rates.items())
