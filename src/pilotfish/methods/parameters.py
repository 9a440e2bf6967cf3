"""The parameters of a method: the fields of its dataclass, checked by name and type."""

import difflib
import types
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from pilotfish.errors import UsageError
from pilotfish.methods.rankers import Direction

if TYPE_CHECKING:
    from pilotfish.config import Method

DIRECTION = "direction"
RANKING = {DIRECTION, "ceiling"}  # parameters that change which rows are kept, not their scores
_TYPES = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}


def parameters_of(kind: type[Any]) -> dict[str, Field[Any]]:
    """Return the parameters of a method by name; {} for a class that is not a dataclass."""
    return {field.name: field for field in fields(kind)} if is_dataclass(kind) else {}


def arguments_of(
    method: "Method", kind: type[Any], direction: str | None, *, any_direction: bool = False
) -> tuple[dict[str, Any], Direction | None]:
    """Check the arguments of a METHOD.

    Args:
        method: The parsed METHOD.
        kind: Its class.
        direction: The value of --direction, if given.
        any_direction: Accept a direction for a class without a parameter of that name.

    Returns:
        The arguments of the class, and the direction that the class does not accept itself.

    Raises:
        UsageError: See `pilotfish.methods.make`.
    """
    name, known, hints = method.name, parameters_of(kind), get_type_hints(kind)
    arguments, inside = dict(method.args), method.args.get(DIRECTION)
    if direction is not None:
        if inside not in (None, direction):
            raise UsageError(
                f"the direction is given twice: '{inside}' in {method.text} and '{direction}' "
                "as --direction",
                hint="give it once",
            )
        arguments[DIRECTION] = direction
    chosen = None
    if any_direction and DIRECTION not in known:
        chosen = arguments.pop(DIRECTION, None)
        _check_type(name, DIRECTION, chosen, Direction | None)
    for key, value in arguments.items():
        if key == DIRECTION and key not in known:
            raise UsageError(f"{name} has no direction to choose", hint="leave it out")
        if key not in known:
            near = difflib.get_close_matches(key, list(known), n=1)
            guess = f"; did you mean '{near[0]}'?" if near else "."
            names = ", ".join(known) or "nothing"
            raise UsageError(f"{name} has no '{key}'{guess} It knows: {names}.")
        _check_type(name, key, value, hints[key])
    for key, field in known.items():
        if key not in arguments and field.default is MISSING and field.default_factory is MISSING:
            raise UsageError(f"{name} needs '{key}'", hint=f"write {name}({key}=...)")
    return arguments, chosen


def _check_type(name: str, key: str, value: Any, hint: Any) -> None:
    """Raise UsageError if a value does not have the type that an annotation names."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    literals = [v for option in options if get_origin(option) is Literal for v in get_args(option)]
    plain = [option for option in options if get_origin(option) is not Literal]
    if value in literals and not isinstance(value, bool):
        return
    if any(_has_type(value, option) for option in plain):
        return
    if literals:
        expected = "one of " + ", ".join(map(str, literals))
    else:
        names = [getattr(option, "__name__", str(option)) for option in plain]
        expected = " or ".join(_TYPES.get(each, each) for each in names if each != "NoneType")
    raise UsageError(f"{name}: {key}={value!r} is not {expected}")


def _has_type(value: Any, option: Any) -> bool:
    if option is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if option is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return option is Any or (isinstance(option, type) and isinstance(value, option))
