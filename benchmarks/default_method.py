"""Which method should `run` take by default? Compared where the truth about every row is known.

    python benchmarks/default_method.py --out default_method.json            # minutes
    python benchmarks/default_method.py --out default_method.json --train    # also trains: longer

On the tiny world's dirty and clean pool, with and without trusted rows, each method picks 30% per
seed; reported is the share of picked rows that are right, and with --train the exact match of the
strong model trained on them. Writes JSON, prints a markdown table.
"""

import argparse
import json
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from pilotfish.api import run as run_recipe
from pilotfish.config import TrainConfig, parse_method
from pilotfish.config.data import Source
from pilotfish.config.scoring import ScoreConfig
from pilotfish.demo.build import World
from pilotfish.demo.models import shipped
from pilotfish.demo.world import CHAPTERS, DEMO, Chapter, build_world, settings
from pilotfish.errors import UsageError
from pilotfish.scoring.score import score
from pilotfish.selection.select import SelectConfig, select

METHODS = (
    "random",
    "longest",
    "ifd",
    "superfiltering",
    "perplexity(direction=low)",
    "perplexity(direction=low,end=true)",
    "perplexity(direction=middle)",
    "perplexity(direction=high)",
)
FIRST_SEED = 1000  # not the demo's world: a default is not chosen where it is then shown
NO_PICK = "cannot fill the budget"


@dataclass(frozen=True)
class Result:
    """One method on one pool with one seed. None: not measured, or the method had too few rows."""

    pool: str
    trusted: bool
    seed: int
    method: str
    right: float | None  # share of the picked rows
    pool_right: float  # share of all rows
    exact_match: float | None = None
    note: str = ""


def compare(seeds: int, folder: Path, *, train: bool) -> Iterator[Result]:
    """Every method on every pool, with and without trusted rows."""
    for chapter, trusted, turn in product(CHAPTERS, (True, False), range(seeds)):
        seed = FIRST_SEED + turn
        name = f"{chapter.name}-{'trusted' if trusted else 'bare'}-{seed}"
        world = build_world(chapter, folder / name / "world", seed=seed)
        root = measured(world, folder / name / "run", trusted=trusted, seed=seed)
        for method in METHODS:
            exact = None
            right, note = picked_right(world, root, method, seed=seed)
            if train and right is not None:
                recipe = training_recipe(chapter, world, method, trusted=trusted, seed=seed)
                exact = exact_match(recipe, folder / name / "train" / method)
            share = mean(world.right().values())
            yield Result(chapter.name, trusted, seed, method, right, share, exact, note)


def measured(world: World, root: Path, *, trusted: bool, seed: int) -> Path:
    """Score the pool by every method in one go; the weak model is tuned where rows are trusted."""
    tune = settings(CHAPTERS[0], world, seed)["weak_train"]
    config = ScoreConfig(
        str(shipped("weak")),
        # random needs no score: it draws for each seed when it picks
        [parse_method(method) for method in METHODS if method != "random"],
        trusted=str(world.trusted) if trusted else None,
        seed=seed,
        weak_train=TrainConfig(**tune),
    )
    score(str(root), Source(str(world.pool)), config)
    return root


def picked_right(world: World, root: Path, method: str, *, seed: int) -> tuple[float | None, str]:
    """Share of the picked rows whose completion is the true answer."""
    right = list(world.right().values())  # pool order
    try:
        selection = select(str(root), SelectConfig(method, DEMO.budget, seed=seed), force=True)
    except UsageError as error:
        return None, f"{NO_PICK}: {error}"
    return mean(right[index] for index in selection.order.tolist()), ""


def training_recipe(
    chapter: Chapter, world: World, method: str, *, trusted: bool, seed: int
) -> dict[str, Any]:
    """The demo's recipe, cut down to the selected arm and one seed."""
    recipe = settings(chapter, world, seed)
    if not trusted:
        recipe.pop("trusted")
    return {**recipe, "method": method, "arms": ["selected"], "losses": {}, "seeds": 1}


def exact_match(recipe: dict[str, Any], out: Path) -> float:
    """Exact match on the test rows of the strong model trained on the picked rows."""
    arms = {arm["name"]: arm for arm in run_recipe(recipe, out=out)["arms"]}
    return float(arms["selected"]["mean"])


def table(results: list[Result]) -> str:
    """Markdown: one line per method, pool and trust; mean over seeds, their standard deviation."""
    lines = [
        "| pool | trusted rows | method | right rows among the picked | exact match |",
        "|---|---|---|---|---|",
    ]
    for pool, trusted in dict.fromkeys((r.pool, r.trusted) for r in results):
        for method in METHODS:
            cell = [r for r in results if (r.pool, r.trusted, r.method) == (pool, trusted, method)]
            right = spread([r.right for r in cell])
            exact = spread([r.exact_match for r in cell])
            words = "given" if trusted else "none"
            lines.append(f"| {pool} | {words} | `{method}` | {right} | {exact} |")
    return "\n".join(lines)


def spread(values: list[float | None]) -> str:
    """Mean and standard deviation over seeds; a dash where a seed has no number."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return "-"
    return f"{mean(known):.3f}" + (f" ({stdev(known):.3f})" if len(known) > 1 else "")


def commit() -> str:
    """The commit the numbers belong to, "unknown" outside a checkout."""
    done = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", action="store_true", help="train the strong model on the picks")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = list(compare(chosen.seeds, Path(folder), train=chosen.train))
    facts = {
        "command": "python benchmarks/default_method.py",
        "commit": commit(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "seeds": chosen.seeds,
        "train": chosen.train,
        "demo": asdict(DEMO),
        "chapters": [asdict(chapter) for chapter in CHAPTERS],
        "results": [asdict(result) for result in results],
    }
    chosen.out.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
