"""Split the labelled rows of a weak-to-strong experiment: no question is in two parts."""

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
CURVE_ROWS = 200  # test rows that curves are drawn from, at most


@dataclass(frozen=True)
class Split:
    """Four parts of the labelled rows."""

    test: list[Example]
    validation: list[Example]  # for filters and stopping rules
    weak: list[Example]  # the half that the weak model learns
    student: list[Example]  # the half that it labels and the strong model learns
    repeated: int = 0  # rows left out because another one has the same question
    leaked: int = 0  # rows left out because a test row has their question

    @property
    def facts(self) -> dict[str, Any]:
        """Sizes and digests of the parts, for run.json."""
        sizes: dict[str, Any] = {part: len(getattr(self, part)) for part in PARTS}
        marks = {f"{part}_fingerprint": fingerprint(getattr(self, part)) for part in PARTS}
        return {**sizes, **marks, "repeated": self.repeated, "leaked": self.leaked}

    @property
    def curve_rows(self) -> list[Example]:
        """The test rows of the curves: a sample, since test rows are in the order of a hash."""
        return self.test[:CURVE_ROWS]


def read_split(recipe: WeakToStrong) -> Split:
    """Read DATA, and the test rows where given, and split it."""
    source = Source(
        recipe.data, recipe.map, recipe.limit, recipe.max_bad_rate,
        recipe.dataset_config, recipe.split, recipe.revision,
    )  # fmt: skip
    test = read_extra_rows(source, recipe.test).examples if recipe.test else []
    rows = read_extra_rows(source, recipe.data, exclude=overlap_keys(test), limit=recipe.limit)
    return replace(split(rows.examples, test, recipe), leaked=rows.dropped)


def split(rows: Sequence[Example], test: Sequence[Example], recipe: WeakToStrong) -> Split:
    """Split by a hash of the question keyed with the recipe's seed, whatever the order of the rows.

    Of rows with the same question one is kept. The rows of a part do not depend on the sizes of
    the parts behind it. Without `test`, the test rows are a part of `rows`.

    Raises:
        UsageError: There are too few rows.
    """
    labelled = [row for row in rows if row.response]
    ranked = distinct(labelled, recipe.seed)
    given = distinct([row for row in test if row.response], recipe.seed)[: recipe.test_rows]
    sizes = sizes_of(len(ranked), recipe, held_out=not test)
    parts, start = [], 0
    for size in sizes:
        parts.append(sorted(ranked[start : start + size], key=lambda row: (row.digest, row.id)))
        start += size
    if test:
        parts[0] = sorted(given, key=lambda row: (row.digest, row.id))
    check_apart(parts)
    return Split(parts[0], parts[1], parts[2], parts[3], repeated=len(labelled) - len(ranked))


def distinct(rows: Sequence[Example], seed: int) -> list[Example]:
    """Keep one row per question, in the order of a keyed hash of the question."""
    found: dict[str, Example] = {}
    for row in sorted(rows, key=lambda row: (row.digest, row.id)):
        found.setdefault(overlap_key(row), row)

    def keyed(question: str) -> bytes:
        return hashlib.blake2b(f"{seed}:{question}".encode(), digest_size=16).digest()

    return [found[question] for question in sorted(found, key=keyed)]


def sizes_of(count: int, recipe: WeakToStrong, *, held_out: bool) -> tuple[int, int, int, int]:
    """Decide the rows of test, validation, weak half and student half, out of `count`.

    held_out: Whether the test rows are among them.

    Raises:
        UsageError: `count` is too small.
    """
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
    """Check that no question is in two parts, which would make every result worthless.

    Raises:
        DataError: One is.
    """
    seen: set[str] = set()
    for name, part in zip(PARTS, parts, strict=True):
        keys = overlap_keys(part)
        if both := len(keys & seen):
            raise DataError(f"{both} questions of the {name} part are in another part too")
        seen |= keys
