"""Published methods, one file each: features, formula, ranker and citation. Numpy only."""

from typing import TYPE_CHECKING, Any

from pilotfish.errors import unknown_name
from pilotfish.methods.base import RANKING, Selector, arguments_of, parameters_of
from pilotfish.methods.custom import CustomMethod, load_custom
from pilotfish.methods.ifd import Ifd
from pilotfish.methods.longest import Longest
from pilotfish.methods.perplexity import Perplexity
from pilotfish.methods.random import Random
from pilotfish.methods.superfiltering import Superfiltering

if TYPE_CHECKING:
    from pilotfish.config import Method

METHODS: dict[str, type[Selector]] = {
    "ifd": Ifd,
    "longest": Longest,
    "perplexity": Perplexity,
    "random": Random,
    "superfiltering": Superfiltering,
}

HELPERS = {"base", "custom"}

__all__ = ["METHODS", "Selector", "describe", "make", "same_scores"]


def make(method: "Method", direction: str | None = None) -> Selector:
    """Make the selector of a METHOD, and check its arguments.

    Args:
        method: The parsed METHOD; its name is in `METHODS` or a dotted path `my_module:MyThing`.
        direction: The value of --direction, if given.

    Returns:
        The selector. One that needs a direction and has none can score, but its `ranker()` raises
        UsageError.

    Raises:
        UsageError: The name or an argument is unknown, a value has the wrong type, two different
            directions are given, or the method has no direction (exit 2).
    """
    if ":" in method.name:
        custom = load_custom(method.name)
        arguments, chosen = arguments_of(method, custom, direction, any_direction=True)
        return CustomMethod(custom(**arguments), chosen)
    if method.name not in METHODS:
        raise unknown_name("method", method.name, METHODS)
    kind: type[Any] = METHODS[method.name]
    arguments, _ = arguments_of(method, kind, direction)
    selector: Selector = kind(**arguments)
    return selector


def describe(name: str | None = None) -> list[dict[str, Any]]:
    """Return name, formula, needs, direction, parameters and citation of every method, or of one.

    Raises:
        UsageError: There is no method of that name.
    """
    if name is not None and name not in METHODS:
        raise unknown_name("method", name, METHODS)
    described = []
    for each in sorted(METHODS) if name is None else [name]:
        kind = METHODS[each]
        selector = kind()
        described.append(
            {
                "name": each,
                "about": (kind.__doc__ or "").partition("\n")[0],
                "formula": selector.formula,
                "needs": [need.name for need in selector.needs],
                "direction": selector.direction,
                "knobs": {key: field.default for key, field in parameters_of(kind).items()},
                "cite": selector.cite,
            }
        )
    return described


def same_scores(one: Selector, other: Selector) -> bool:
    """Return whether two selectors of the same name give every row the same score."""

    def scoring(selector: Selector) -> dict[str, Any]:
        if isinstance(selector, CustomMethod):  # any of its parameters may change its scores
            inner = selector.inner
            return {key: getattr(inner, key) for key in parameters_of(type(inner))}
        parameters = set(parameters_of(type(selector))) - RANKING
        return {key: getattr(selector, key) for key in parameters}

    return scoring(one) == scoring(other)
