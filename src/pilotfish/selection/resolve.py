"""Which selector a METHOD stands for in a run, and which score column it reads."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pilotfish.config import Method, parse_method
from pilotfish.errors import UsageError
from pilotfish.methods import METHODS, Selector, make, same_scores
from pilotfish.selection.candidates import no_such_score
from pilotfish.store import Run


def column_of(
    run: Run, method: Method | str, *, score: str | None, direction: str | None, seed: int
) -> tuple[Method, Selector, str | None]:
    """The method, its selector and its score column (None: computed on the spot).

    The column is `score`, else the one named like the METHOD, else the only one whose recorded
    method scores alike (knobs that only pick, such as the direction, may differ). A METHOD that is
    itself the name of a column stands for the method recorded there.
    """
    known = run.section("scores")
    method, score = _spoken(known, method, score)
    if direction is None and "direction" not in method.args:
        named = known.get(score or method.text, {})
        recorded = named.get("direction") if _choosable(method) else None
        # asking for what it does by itself would put a plain ranker in the place of its own
        by_itself = make(with_seed(method, seed)).direction
        direction = None if recorded == by_itself else recorded
    selector = make(with_seed(method, seed), direction)
    if score is None and selector.needs:
        score = method.text if method.text in known else _alike(run, known, method, selector)
    if score is not None and score not in known:
        raise no_such_score(run, score)
    return method, selector, score


def resolve_recorded(run: Run, facts: Mapping[str, Any]) -> tuple[Method, Selector, str | None]:
    """The same, as the line of a selection in run.json tells it."""
    return column_of(
        run, facts["method"], score=facts["score"], direction=direction_of(run, facts),
        seed=int(facts["seed"] or 0),
    )  # fmt: skip


def direction_of(run: Run, facts: Mapping[str, Any]) -> str | None:
    """What to ask for to pick from the same end again: nothing where that is so by itself."""
    _, selector, _ = column_of(
        run, facts["method"], score=facts["score"], direction=None, seed=int(facts["seed"] or 0)
    )
    direction: str | None = facts["direction"]
    return None if selector.direction == direction else direction


def _spoken(
    known: Mapping[str, Any], said: Method | str, score: str | None
) -> tuple[Method, str | None]:
    """A METHOD, or the name of a column standing for the method recorded there."""
    text = said.strip() if isinstance(said, str) else said.text
    if text in known and known[text]["method"] != text:
        return parse_method(known[text]["method"]), score or text
    return (parse_method(said) if isinstance(said, str) else said), score


def with_seed(method: Method, seed: int) -> Method:
    """`seed` for a method that draws and was not given one."""
    kind = METHODS.get(method.name)
    if "seed" in method.args or "seed" not in getattr(kind, "__dataclass_fields__", {}):
        return method
    return Method(method.name, {**method.args, "seed": seed}, method.text)


def _choosable(method: Method) -> bool:
    kind: Any = METHODS.get(method.name)
    # `fields` leaves class variables out: `longest` has a direction, and none to choose.
    return not is_dataclass(kind) or "direction" in {field.name for field in fields(kind)}


def _alike(run: Run, known: Mapping[str, Any], method: Method, selector: Selector) -> str:
    names = []
    for name, facts in known.items():
        recorded = parse_method(str(facts["method"]))
        if recorded.name == method.name and same_scores(make(recorded), selector):
            names.append(name)
    if len(names) > 1:
        raise UsageError(
            f"{run.root} has several scores by {method.name}: {', '.join(names)}",
            hint=f"name one of them: --method '{names[0]}'",
        )
    if not names:
        raise no_such_score(run, method.text)
    return names[0]
