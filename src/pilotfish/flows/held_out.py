"""Rows kept apart: held out for judging, stored with the run, and never trained on."""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pilotfish.errors import UsageError
from pilotfish.flows.reading import Source, fingerprint, read_for_now
from pilotfish.pool import overlap_keys
from pilotfish.records import Example, Turn
from pilotfish.redaction import redacted
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
        pool = read_for_now(source, Store(folder))
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


def keep_test(run: Run, examples: Sequence[Example], facts: dict[str, Any], *, force: bool) -> None:
    """Store the test rows with the run, so that a later `judge RUN` asks the same questions."""
    section = {**redacted(facts), "rows": len(examples), "fingerprint": fingerprint(examples)}
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
            f"{run.root} holds no test rows yet", hint=f"pilotfish judge {run.root} --test DATA"
        )
    run.store.require(MANIFEST)
    lines = run.store.path(ITEMS).read_text(encoding="utf-8").split("\n")
    return [_example(json.loads(line)) for line in lines if line]


def _example(facts: dict[str, Any]) -> Example:
    return Example(**{**facts, "turns": tuple(Turn(**turn) for turn in facts["turns"])})


def known_test(run: Run) -> list[Example]:
    """The run's test rows, [] where it has none yet."""
    return test_rows(run) if run.store.read_json(MANIFEST) is not None else []
