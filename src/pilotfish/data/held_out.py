"""Trusted and test rows: hold rows out for evaluation, and store test rows with the run."""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pilotfish.config import Recipe
from pilotfish.config.data import Source
from pilotfish.data.decontaminate import overlap_keys
from pilotfish.data.run_pool import fingerprint, read_extra_rows, read_temporary, warn
from pilotfish.errors import UsageError
from pilotfish.records import Example, Turn
from pilotfish.redaction import redact_values
from pilotfish.store import Run, Store

MANIFEST, ITEMS = "test/manifest.json", "test/items.jsonl"


@dataclass(frozen=True)
class HeldOutData:
    """The rows of an experiment that are not in the pool."""

    trusted: Sequence[Example]  # rows a person has checked
    test: Sequence[Example]  # rows for evaluation, never trained on
    held_out: str  # where the test rows come from: "test", "trusted" or "pool"
    dropped: int = 0  # trusted rows left out because they are also in the test data


def source_of_recipe(recipe: Recipe) -> Source:
    """Return the recipe's reading options."""
    return Source(
        recipe.data,
        mapping=recipe.map,
        limit=recipe.limit,
        max_bad_rate=recipe.max_bad_rate,
        dataset_config=recipe.dataset_config,
        split=recipe.split,
        revision=recipe.revision,
    )


def load_eval_rows(recipe: Recipe, source: Source) -> HeldOutData:
    """Read the trusted and test rows of a recipe.

    Without test data, test rows are held out of the trusted rows; without either, of the pool.
    """
    if recipe.test:
        test = read_extra_rows(source, recipe.test).examples
        if not recipe.trusted:
            return HeldOutData([], test, "test")
        trusted = read_extra_rows(source, recipe.trusted, exclude=overlap_keys(test))
        return HeldOutData(trusted.examples, test, "test", trusted.dropped)
    if recipe.trusted:
        rows = read_extra_rows(source, recipe.trusted).examples
        kept, held = hold_out(rows, min(recipe.test_rows, len(rows) // 3), recipe.seed)
        return HeldOutData(kept, held, "trusted")
    return HeldOutData([], hold_out_of_pool(source, recipe.test_rows, recipe.seed), "pool")


def hold_out(
    examples: Sequence[Example], count: int, seed: int
) -> tuple[list[Example], list[Example]]:
    """Split rows by a keyed hash of their content, whatever their order.

    Args:
        examples: The rows.
        count: Rows to hold out. Rows with the prompt of a held-out row go with it.
        seed: Key of the hash.

    Returns:
        The remaining rows, and the held-out rows.
    """
    ranked = sorted(examples, key=lambda example: _hash(seed, example.digest))
    keys = overlap_keys(ranked[:count])
    is_held = [bool(overlap_keys([example]) & keys) for example in examples]
    pairs = list(zip(examples, is_held, strict=True))
    return [row for row, held in pairs if not held], [row for row, held in pairs if held]


def hold_out_of_pool(source: Source, count: int, seed: int) -> list[Example]:
    """Hold out `count` rows of DATA by hash, a quarter at most, before anything is measured.

    Raises:
        UsageError: DATA has fewer than four usable rows.
    """
    with tempfile.TemporaryDirectory() as folder:
        pool = read_temporary(source, Store(folder))
        if len(pool) < 4:
            raise UsageError(
                f"{source.data} has {len(pool)} usable rows: too few to hold out test rows",
                hint="give held-out rows with --test",
            )
        digests = [str(value) for value in pool.columns("digest")["digest"]]
        ranked = sorted(range(len(pool)), key=lambda i: _hash(seed, digests[i]))
        return pool.take(sorted(ranked[: min(count, len(pool) // 4)]))


def _hash(seed: int, digest: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{digest}".encode(), digest_size=16).digest()


def store_test_rows(
    run: Run, examples: Sequence[Example], facts: dict[str, Any], *, force: bool
) -> None:
    """Store the test rows with the run, so that a later `evaluate RUN` uses the same rows.

    Args:
        run: The run.
        examples: The test rows.
        facts: Where they come from, for run.json.
        force: Replace other test rows.
    """
    section = {**redact_values(facts), "rows": len(examples), "fingerprint": fingerprint(examples)}
    run.fix("test", section, force=force)
    with run.store.attempt(MANIFEST) as attempt:
        # whole examples, ids included: reading a part as data again may give other ids
        lines = "".join(f"{json.dumps(asdict(example))}\n" for example in examples)
        attempt.path(ITEMS).write_text(lines, encoding="utf-8")
        attempt.meta = {"rows": len(examples)}


def test_rows(run: Run) -> list[Example]:
    """Return the run's stored test rows.

    Raises:
        UsageError: It has none; the hint is the command that stores some.
    """
    if run.store.read_json(MANIFEST) is None:
        raise UsageError(
            f"{run.root} holds no test rows yet", hint=f"pilotfish evaluate {run.root} --test DATA"
        )
    return stored_test_rows(run)


def stored_test_rows(run: Run) -> list[Example]:
    """Return the run's test rows, [] where it has none yet."""
    if run.store.read_json(MANIFEST) is None:
        return []
    run.store.require(MANIFEST)
    lines = run.store.path(ITEMS).read_text(encoding="utf-8").split("\n")
    found = [json.loads(line) for line in lines if line]
    return [
        Example(**{**facts, "turns": tuple(Turn(**turn) for turn in facts["turns"])})
        for facts in found
    ]


def warn_weak_evidence(run: Run, data: HeldOutData) -> None:
    """Add a warning to the run where its test rows are weaker evidence than they seem."""
    if data.held_out == "pool":
        warn(
            run, ["evaluated on rows held out of the pool: the pool's own noise is in the figures"]
        )
    if data.held_out == "trusted":
        warn(run, [f"evaluated on {len(data.test):,} rows held out of the trusted ones"])
    if data.dropped:
        warn(run, [f"{data.dropped:,} trusted rows are also in the test data: not trained on"])
