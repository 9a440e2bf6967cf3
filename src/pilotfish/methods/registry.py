"""From a METHOD as typed to a selector: names, knobs and direction are checked here."""

import difflib
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from pilotfish.errors import UsageError, unknown_name
from pilotfish.methods.base import Selector
from pilotfish.methods.custom import CustomMethod, load_custom
from pilotfish.methods.rankers import Direction

if TYPE_CHECKING:
    from pilotfish.config import Method

DIRECTION = "direction"
PICKING = {DIRECTION, "ceiling"}  # knobs that decide who is picked, not what the score is


def build(table: Mapping[str, type[Selector]], method: "Method", direction: str | None) -> Selector:
    """The selector of a METHOD; `direction` is what stood outside it (`--direction`).

    UsageError (exit 2) for an unknown name or knob, a value of the wrong type, a direction given
    twice and differently, and a direction where the method has none.
    """
    dotted = ":" in method.name
    if not dotted and method.name not in table:
        raise unknown_name("method", method.name, table)
    kind: type[Any] = load_custom(method.name) if dotted else table[method.name]
    args = dict(method.args)
    args |= _one_direction(method, direction)
    chosen = None
    if dotted and DIRECTION not in knobs(kind):
        chosen = args.pop(DIRECTION, None)
        _check(method.name, DIRECTION, chosen, Direction | None)
    _check_knobs(method.name, kind, args)
    made = kind(**args)
    selector: Selector = CustomMethod(made, chosen) if dotted else made
    return selector


def describe(table: Mapping[str, type[Selector]], name: str | None = None) -> list[dict[str, Any]]:
    """What `pilotfish methods [NAME]` shows, one dict per method."""
    if name is not None and name not in table:
        raise unknown_name("method", name, table)
    return [_described(each, table[each]) for each in sorted(table) if name in (None, each)]


def knobs(kind: type[Any]) -> dict[str, Field[Any]]:
    """The knobs of a method: the fields of its dataclass."""
    return {field.name: field for field in fields(kind)} if is_dataclass(kind) else {}


def same_scores(one: Selector, other: Selector) -> bool:
    """Whether two selectors of one name give every row the same score."""
    return _scoring(one) == _scoring(other)


def _scoring(selector: Selector) -> dict[str, Any]:
    if isinstance(selector, CustomMethod):  # any of its knobs may enter its score
        return {key: getattr(selector.inner, key) for key in knobs(type(selector.inner))}
    return {key: getattr(selector, key) for key in knobs(type(selector)) if key not in PICKING}


def _described(name: str, kind: type[Selector]) -> dict[str, Any]:
    made = kind()
    return {
        "name": name,
        "about": (kind.__doc__ or "").partition("\n")[0],
        "formula": made.formula,
        "needs": [need.name for need in made.needs],
        "direction": made.direction,
        "knobs": {key: field.default for key, field in knobs(kind).items()},
        "cite": made.cite,
    }


def _one_direction(method: "Method", outside: str | None) -> dict[str, str]:
    inside = method.args.get(DIRECTION)
    if outside is None:
        return {}
    if inside is not None and inside != outside:
        raise UsageError(
            f"the direction is given twice: '{inside}' in {method.text} and '{outside}' beside it",
            hint="give it once",
        )
    return {DIRECTION: outside}


def _check_knobs(name: str, kind: type[Any], args: Mapping[str, Any]) -> None:
    known, hints = knobs(kind), get_type_hints(kind)
    for key, value in args.items():
        if key not in known:
            raise _unknown_knob(name, key, list(known))
        _check(name, key, value, hints[key])
    for key, field in known.items():
        if key not in args and field.default is MISSING and field.default_factory is MISSING:
            raise UsageError(f"{name} needs '{key}'", hint=f"write {name}({key}=...)")


def _unknown_knob(name: str, key: str, known: list[str]) -> UsageError:
    if key == DIRECTION:
        return UsageError(f"{name} has no direction to choose", hint="leave it out")
    near = difflib.get_close_matches(key, known, n=1)
    guess = f"; did you mean '{near[0]}'?" if near else "."
    return UsageError(f"{name} has no '{key}'{guess} It knows: {', '.join(known) or 'nothing'}.")


def _check(name: str, key: str, value: Any, hint: Any) -> None:
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if any(_fits(value, option) for option in options):
        return
    literals = [str(arg) for option in options for arg in _literals(option)]
    wanted = "one of " + ", ".join(literals) if literals else _plain(options)
    raise UsageError(f"{name}: {key}={value!r} is not {wanted}")


def _fits(value: Any, option: Any) -> bool:
    if literals := _literals(option):
        return value in literals and not isinstance(value, bool)
    if option is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if option is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return option is Any or (isinstance(option, type) and isinstance(value, option))


def _literals(option: Any) -> tuple[Any, ...]:
    return get_args(option) if get_origin(option) is Literal else ()


def _plain(options: tuple[Any, ...]) -> str:
    names = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}
    plain = [getattr(option, "__name__", str(option)) for option in options]
    return " or ".join(names.get(each, each) for each in plain if each != "NoneType")
