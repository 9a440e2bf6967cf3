"""Rows kept apart: held out for judging, stored with the run, and never trained on."""

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


def hold_out(
    examples: Sequence[Example], count: int, seed: int
) -> tuple[list[Example], list[Example]]:
    """Split by keyed hash of the content: (rest, held out), whatever the order of the rows.

    Rows that ask the same question as a held-out one go with it.
    """
    ranked = sorted(examples, key=lambda example: _keyed(seed, example.digest))
    held = overlap_keys(ranked[:count])
    apart = [bool(overlap_keys([example]) & held) for example in examples]
    pairs = list(zip(examples, apart, strict=True))
    return [row for row, out in pairs if not out], [row for row, out in pairs if out]


def hold_out_of_pool(source: Source, count: int, seed: int) -> list[Example]:
    """Rows of DATA kept apart for judging, chosen by hash before anything is measured."""
    with tempfile.TemporaryDirectory() as folder:
        pool = read_temporary(source, Store(folder))
        if len(pool) < 4:
            raise UsageError(
                f"{source.data} has {len(pool)} usable rows: too few to hold some out for judging",
                hint="give held-out rows with --test",
            )
        digests = [str(value) for value in pool.columns("digest")["digest"]]
        ranked = sorted(range(len(pool)), key=lambda i: _keyed(seed, digests[i]))
        return pool.take(sorted(ranked[: min(count, len(pool) // 4)]))


def _keyed(seed: int, digest: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{digest}".encode(), digest_size=16).digest()


def store_test_rows(
    run: Run, examples: Sequence[Example], facts: dict[str, Any], *, force: bool
) -> None:
    """Store the test rows with the run, so that a later `judge RUN` asks the same questions."""
    section = {**redact_values(facts), "rows": len(examples), "fingerprint": fingerprint(examples)}
    run.fix("test", section, force=force)
    with run.store.attempt(MANIFEST) as attempt:
        # whole examples, ids included: read as data once more, a part may get other ids
        lines = "".join(f"{json.dumps(asdict(example))}\n" for example in examples)
        attempt.path(ITEMS).write_text(lines, encoding="utf-8")
        attempt.meta = {"rows": len(examples)}


def test_rows(run: Run) -> list[Example]:
    """The run's stored test rows; UsageError where it has none."""
    if run.store.read_json(MANIFEST) is None:
        raise UsageError(
            f"{run.root} holds no test rows yet", hint=f"pilotfish evaluate {run.root} --test DATA"
        )
    run.store.require(MANIFEST)
    lines = run.store.path(ITEMS).read_text(encoding="utf-8").split("\n")
    return [_example(json.loads(line)) for line in lines if line]


def _example(facts: dict[str, Any]) -> Example:
    return Example(**{**facts, "turns": tuple(Turn(**turn) for turn in facts["turns"])})


def stored_test_rows(run: Run) -> list[Example]:
    """The run's test rows, [] where it has none yet."""
    return test_rows(run) if run.store.read_json(MANIFEST) is not None else []


@dataclass(frozen=True)
class HeldOutData:
    """The rows that are not the pool: vouched for, and held out for judging."""

    trusted: Sequence[Example]
    test: Sequence[Example]
    held_out: str  # test | trusted | pool
    dropped: int = 0  # trusted rows that also stand in the test data


def source_of_recipe(recipe: Recipe) -> Source:
    """The recipe's reading options."""
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
    """Trusted and test rows: given, or held out of the trusted rows, else of the pool."""
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


def warn_weak_evidence(run: Run, beside: HeldOutData) -> None:
    """Warn where the judging rows are weaker evidence than they look."""
    if beside.held_out == "pool":
        warn(run, ["judged on rows held out of the pool: the pool's own noise is in the figures"])
    if beside.held_out == "trusted":
        warn(run, [f"judged on {len(beside.test):,} rows held out of the trusted ones"])
    if beside.dropped:
        warn(run, [f"{beside.dropped:,} trusted rows also stand in the test data: not trained on"])
