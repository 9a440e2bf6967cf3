"""The interface of a method, and what methods share: parameters, formulas, reasons, ranking."""

import difflib
import types
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Protocol,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np

from pilotfish.errors import UsageError
from pilotfish.methods.rankers import Direction, Gate, Middle, Ranker, Top
from pilotfish.methods.rankers.base import OPEN
from pilotfish.records import Floats, Need, RowFeatures, Texts

if TYPE_CHECKING:
    from pilotfish.config import Method

NONFINITE = "nonfinite"
NO_RESPONSE = "no_response_tokens"
DIRECTION = "direction"
RANKING = {DIRECTION, "ceiling"}  # parameters that change which rows are kept, not their scores
_TYPES = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}


class Selector(Protocol):
    """A published method: the features it needs, its formula, its ranker and its citation.

    The classes are frozen dataclasses; their fields are the paper's parameters and defaults.
    """

    @property
    def needs(self) -> tuple[Need, ...]:
        """The features to measure; () for a method that needs no model."""
        ...

    @property
    def direction(self) -> Direction | None:
        """Which end is kept; None if it must be given and was not."""
        ...

    @property
    def reads_counts(self) -> bool:
        """Whether the formula reads token counts, which scoring a run provides."""
        ...

    @property
    def pool_relative(self) -> bool:
        """Whether a row's score depends on other rows; if not, shards are scored one by one."""
        ...

    @property
    def formula(self) -> str:
        """The formula in one line, for `pilotfish methods`."""
        ...

    @property
    def cite(self) -> str:
        """Paper ids and reference repository."""
        ...

    def score(self, seen: RowFeatures) -> Floats:
        """Return [n] raw values in the published orientation, nan where unscorable."""
        ...

    def reasons(self, seen: RowFeatures, scores: Floats) -> Texts:
        """Return [n] the reason why a row has no score, "" where scored."""
        ...

    def ranker(self) -> Ranker:
        """Return how the scores are ranked. Raises UsageError if a direction is missing."""
        ...


def mean_nll(seen: RowFeatures, need: Need) -> Floats:
    """Return [n] the mean NLL in nats per scored token, nan where not measured or not finite.

    An infinite loss must not reach a formula: exp(L_c - inf) is 0, which is finite and wrong.
    """
    mean = seen[need].mean
    return np.where(np.isfinite(mean), mean, np.nan)


def exp(nats: Floats) -> Floats:
    """Return [n] the exponential of [n] nats, nan where it is not finite."""
    with np.errstate(over="ignore"):
        values = np.exp(nats)
    return np.where(np.isfinite(values), values, np.nan)


def ifd(conditional: Floats, alone: Floats) -> Floats:
    """Return [n] the ratio of perplexities.

    Args:
        conditional: [n] mean NLL of the response given the prompt, in nats per token.
        alone: [n] mean NLL of the response without the prompt, in nats per token.
    """
    return exp(conditional - alone)


def measured_reasons(needs: tuple[Need, ...], seen: RowFeatures, scores: Floats) -> Texts:
    """Return [n] why a row has no score, "" where it has one.

    Args:
        needs: The features that the formula reads; the first reason found is returned.
        seen: The features of the rows.
        scores: [n] scores. A feature or a score that is not finite has the reason `nonfinite`.
    """
    reason = np.full(len(seen), "", dtype=object)
    for need in needs:
        why = np.where(np.isfinite(seen[need].mean), seen[need].reason, NONFINITE)
        why = np.where(seen[need].reason != "", seen[need].reason, why)
        reason = np.where(reason == "", why, reason)
    return np.where((reason == "") & ~np.isfinite(scores), NONFINITE, reason)


def ranker_for(direction: Direction | None, gate: Gate = OPEN) -> Ranker:
    """Return the ranker of a direction: one end, or the middle, outwards from the median.

    Args:
        direction: Which rows to keep.
        gate: Which scores are eligible.

    Raises:
        UsageError: There is no direction.
    """
    if direction is None:
        raise UsageError(
            "which end to keep is not given; published defaults contradict each other, so none is "
            "assumed",
            hint="pass --direction high, low or middle (or write method(direction=low))",
        )
    return Middle(gate) if direction == "middle" else Top(direction, gate)


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
