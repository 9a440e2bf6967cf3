"""Write one world to a folder: pool, trusted and test rows as plain files, and the hidden truth.

A pool row holds an id, a prompt and a completion and nothing else. Its noise is recorded in
`truth.jsonl` only, which no command reads, except the demo for its own figures.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from pilotfish.demo.noise import NOISES, POOLS
from pilotfish.demo.splits import Split, distinct_items
from pilotfish.demo.tasks import Item
from pilotfish.errors import UsageError, unknown_name


@dataclass(frozen=True)
class World:
    """The files of one world, and the noise rates it was made with."""

    folder: Path
    rates: Mapping[str, float]

    @property
    def pool(self) -> Path:
        """Rows to select from: id, prompt, completion."""
        return self.folder / "pool.jsonl"

    @property
    def trusted(self) -> Path:
        """Trusted rows: id, prompt, completion."""
        return self.folder / "trusted.jsonl"

    @property
    def test(self) -> Path:
        """Clean held-out rows to evaluate on: id, prompt, completion."""
        return self.folder / "test.jsonl"

    @property
    def truth(self) -> Path:
        """Of each pool row: id, task, noise ("" for none), right, and answer (the true one)."""
        return self.folder / "truth.jsonl"

    def right(self) -> dict[str, bool]:
        """Return by pool id whether the completion is the true answer (a near-duplicate's is)."""
        lines = self.truth.read_text(encoding="utf-8").splitlines()
        return {fact["id"]: fact["right"] for fact in map(json.loads, lines)}


def build(
    folder: Path | str,
    *,
    seed: int,
    pool_rows: int,
    dirty: str | Mapping[str, float],
    trusted_rows: int,
    test_rows: int,
) -> World:
    """Write a world; the same arguments give the same bytes.

    Args:
        folder: Where to write.
        seed: Seed of everything that is drawn.
        pool_rows: Number of pool rows.
        dirty: "dirty", "clean", or noise name -> share of the pool in [0, 1].
        trusted_rows: Number of trusted rows.
        test_rows: Number of test rows.

    Raises:
        UsageError: A pool or noise is unknown, or shares sum to more than 1.
    """
    world = World(Path(folder), noise_rates(dirty))
    world.folder.mkdir(parents=True, exist_ok=True)
    pool = _pool(seed, pool_rows, world.rates)
    rows = [{"id": r["id"], "prompt": r["prompt"], "completion": r["completion"]} for r in pool]
    truth_keys = ("id", "task", "noise", "right", "answer")
    _write(world.pool, rows)
    _write(world.truth, [{key: row[key] for key in truth_keys} for row in pool])
    _write(world.trusted, _clean_rows("trusted", seed, trusted_rows))
    _write(world.test, _clean_rows("test", seed, test_rows))
    return world


def noise_rates(dirty: str | Mapping[str, float]) -> Mapping[str, float]:
    """Return the noise rates of a named pool, or the given ones, checked."""
    if isinstance(dirty, str):
        if dirty not in POOLS:
            raise unknown_name("pool", dirty, POOLS)
        return POOLS[dirty]
    for name in dirty:
        if name not in NOISES:
            raise unknown_name("noise", name, NOISES)
    if min(dirty.values(), default=0) < 0 or sum(dirty.values()) > 1:
        raise UsageError(f"noise shares must be in [0, 1] and sum to at most 1; got {dict(dirty)}")
    return dirty


def _pool(seed: int, n: int, rates: Mapping[str, float]) -> list[dict[str, Any]]:
    """Make the pool's rows with their truth, shuffled; ids are by place."""
    rng = Random(f"{seed} pool")
    draws = distinct_items("pool", rng)
    counts = {name: round(rate * n) for name, rate in rates.items()}
    clean = list(islice(draws, n - sum(counts.values())))
    donors = _cycle(rng, clean)
    rows = [_row(item, "", (item.prompt, item.answer)) for item in clean]
    for name, count in counts.items():
        noisy = (_noisy_row(name, item, next(donors), rng) for item in draws)
        rows += islice((row for row in noisy if row is not None), count)
    rng.shuffle(rows)
    return [{"id": f"pool-{place:05d}", **row} for place, row in enumerate(rows)]


def _cycle(rng: Random, clean: list[Item]) -> Iterator[Item]:
    """Yield the clean items endlessly, in a new order in every round."""
    if not clean:
        raise UsageError("a pool needs some clean rows: noise shares sum to 1")
    while True:
        yield from rng.sample(clean, len(clean))


def _noisy_row(name: str, item: Item, donor: Item, rng: Random) -> dict[str, Any] | None:
    row = NOISES[name](item, donor, rng)
    original = donor if name == "near_duplicate" else item
    return None if row is None else _row(original, name, row)


def _row(item: Item, noise: str, row: tuple[str, str]) -> dict[str, Any]:
    prompt, completion = row
    return {
        "prompt": prompt,
        "completion": completion,
        "task": item.task.name,
        "noise": noise,
        "right": completion == item.answer,
        "answer": item.answer,
    }


def _clean_rows(split: Split, seed: int, n: int) -> list[dict[str, Any]]:
    drawn = islice(distinct_items(split, Random(f"{seed} {split}")), n)
    return [
        {"id": f"{split}-{place:05d}", "prompt": item.prompt, "completion": item.answer}
        for place, item in enumerate(drawn)
    ]


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")
