"""The filters of weak labels: `knn(k=10, keep=0.7)` as text -> the filter."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pilotfish.config import parse_method
from pilotfish.errors import UsageError, unknown_name
from pilotfish.labeling.filters.base import Candidates, Filter, FilterResult
from pilotfish.labeling.filters.confidence import Confidence
from pilotfish.labeling.filters.consistency import Consistency
from pilotfish.labeling.filters.knn import Knn
from pilotfish.labeling.filters.refill import Refill
from pilotfish.labeling.filters.trust import Trust

__all__ = [
    "FILTERS",
    "Candidates",
    "Filter",
    "FilterResult",
    "Refill",
    "make_filter",
    "make_refill",
]

FILTERS: dict[str, type[Filter]] = {
    "confidence": Confidence,
    "consistency": Consistency,
    "knn": Knn,
    "trust": Trust,
}

HELPERS = {"base", "logistic", "refill"}


def make_filter(text: str) -> Filter:
    """Make the filter of a text such as `confidence(keep=0.8)`.

    Raises:
        UsageError: The name or a setting is unknown, or a value is out of range.
    """
    made: Filter = _make("filter", FILTERS, text)
    return made


def make_refill(text: str) -> Refill:
    """Make the rule of a text such as `refill(quota=0.25)`; UsageError where it is wrong."""
    made: Refill = _make("rule of --refill-rule", {"refill": Refill}, text)
    return made


def _make(what: str, table: Mapping[str, type[Any]], text: str) -> Any:
    method = parse_method(text)
    if method.name not in table:
        raise unknown_name(what, method.name, table)
    kind = table[method.name]
    known = [field.name for field in fields(kind)]
    hints = get_type_hints(kind)
    for name, value in method.args.items():
        if name not in known:
            raise unknown_name(f"setting of {method.name}", name, known)
        if not _fits(value, hints[name]):
            raise UsageError(f"{method.name}: {name}={value!r} is of the wrong type")
    return kind(**method.args)


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if options := get_args(hint):
        return any(_fits(value, option) for option in options)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
