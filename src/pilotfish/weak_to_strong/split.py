"""The parts of a weak-to-strong experiment: no question stands in two of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pilotfish.config import WeakToStrong
from pilotfish.config.data import Source
from pilotfish.data import overlap_key, overlap_keys
from pilotfish.data.run_pool import fingerprint, read_extra_rows
from pilotfish.errors import DataError, UsageError
from pilotfish.records import Example

PARTS = ("test", "validation", "weak", "student")


@dataclass(frozen=True)
class Split:
    """Four parts of the labelled rows; `weak` and `student` are the two halves.

    repeated: rows left out because another one asks the same; leaked: those a test row asks.
    """

    test: list[Example]
    validation: list[Example]
    weak: list[Example]
    student: list[Example]
    repeated: int = 0
    leaked: int = 0

    @property
    def facts(self) -> dict[str, Any]:
        """What run.json keeps: sizes and digests of the parts."""
        sizes: dict[str, Any] = {part: len(getattr(self, part)) for part in PARTS}
        marks = {f"{part}_fingerprint": fingerprint(getattr(self, part)) for part in PARTS}
        return {**sizes, **marks, "repeated": self.repeated, "leaked": self.leaked}


def split_of(recipe: WeakToStrong) -> Split:
    """Read DATA (and the test rows, where given) and split it; UsageError where it is too small."""
    source = Source(
        recipe.data, recipe.map, recipe.limit, recipe.max_bad_rate,
        recipe.dataset_config, recipe.split, recipe.revision,
    )  # fmt: skip
    test = read_extra_rows(source, recipe.test).examples if recipe.test else []
    rows = read_extra_rows(source, recipe.data, exclude=overlap_keys(test), limit=recipe.limit)
    return replace(split(rows.examples, test, recipe), leaked=rows.dropped)


def split(rows: Sequence[Example], test: Sequence[Example], recipe: WeakToStrong) -> Split:
    """Split by a hash of the question keyed with the recipe's seed, whatever the order of the rows.

    Of rows that ask the same one stays. A part's rows do not depend on the sizes of later ones.
    """
    labelled = [row for row in rows if row.response]
    ranked = distinct(labelled, recipe.seed)
    judged = distinct([row for row in test if row.response], recipe.seed)[: recipe.test_rows]
    sizes = sizes_of(len(ranked), recipe, held_out=not test)
    parts, start = [], 0
    for size in sizes:
        parts.append(sorted(ranked[start : start + size], key=lambda row: (row.digest, row.id)))
        start += size
    if test:
        parts[0] = sorted(judged, key=lambda row: (row.digest, row.id))
    check_apart(parts)
    return Split(parts[0], parts[1], parts[2], parts[3], repeated=len(labelled) - len(ranked))


def distinct(rows: Sequence[Example], seed: int) -> list[Example]:
    """One row per question, in the order of a keyed hash of the question."""
    found: dict[str, Example] = {}
    for row in sorted(rows, key=lambda row: (row.digest, row.id)):
        found.setdefault(overlap_key(row), row)
    return [found[key] for key in sorted(found, key=lambda key: _keyed(seed, key))]


def sizes_of(count: int, recipe: WeakToStrong, *, held_out: bool) -> tuple[int, int, int, int]:
    """Rows of test, validation, weak and student half; UsageError where `count` is too small."""
    test = min(recipe.test_rows, count // 4) if held_out else 0
    left = count - test - recipe.validation_rows
    weak = recipe.weak_rows or (left // 2 if recipe.rows is None else max(left - recipe.rows, 2))
    student = recipe.rows or left - weak
    if min(weak, student) < 2 or weak + student > left:
        raise UsageError(
            f"{count:,} different rows are too few for {test:,} of test, "
            f"{recipe.validation_rows:,} of validation, {weak:,} for the weak model "
            f"and {student:,} for the student",
            hint="lower rows, weak_rows, validation_rows or test_rows",
        )
    return test, recipe.validation_rows, weak, student


def check_apart(parts: Sequence[Sequence[Example]]) -> None:
    """DataError where a question stands in two parts: results would be worthless."""
    seen: set[str] = set()
    for name, part in zip(PARTS, parts, strict=True):
        keys = overlap_keys(part)
        if both := len(keys & seen):
            raise DataError(f"{both} questions of the {name} part stand in another part too")
        seen |= keys


def _keyed(seed: int, key: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=16).digest()
