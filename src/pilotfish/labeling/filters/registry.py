"""From a filter as typed, `knn(k=10, keep=0.7)`, to the filter."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pilotfish.config import parse_method
from pilotfish.errors import UsageError, unknown_name


def build(table: Mapping[str, type[Any]], text: str) -> Any:
    """UsageError for an unknown name or knob, or a value of the wrong type."""
    method = parse_method(text)
    if method.name not in table:
        raise unknown_name("filter", method.name, table)
    kind = table[method.name]
    known = [field.name for field in fields(kind)]
    hints = get_type_hints(kind)
    for name, value in method.args.items():
        if name not in known:
            raise UsageError(
                f"{method.name} has no '{name}'; it knows: {', '.join(known)}",
                hint=f"write {method.name}({known[0]}=...)",
            )
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
