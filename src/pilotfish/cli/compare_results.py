"""The branches of `pilotfish compare` that read what was judged before, here or elsewhere."""

from collections.abc import Mapping, Sequence
from typing import Any

from pilotfish.errors import UsageError


def compare_results(
    given: Sequence[str],
    results: Sequence[str],
    folder: str | None,
    *,
    asked: Mapping[str, Any],
    force: bool,
    as_json: bool,
) -> None:
    """Judge imported files or finished runs; the report's exit code is that of its gates."""
    raise UsageError("comparing finished runs or judged files is not possible yet")
