"""Where a ranking is cut: the end of the budget, a gate, the end of each quota."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pilotfish.budget import Budget, take
from pilotfish.errors import UsageError
from pilotfish.methods.rankers import Middle, Ranker, Top
from pilotfish.methods.rankers.base import best_first
from pilotfish.records import Floats, Ints, Mask, Texts

# Ranker or method -> why no single score decides which rows are selected.
WITHOUT_A_CUT: Mapping[str, str] = {
    "clusters": "takes rows from every cluster, so no score is its boundary",
    "facility_location": "values each row by the rows taken before it",
    "k_center": "takes the row farthest from those taken before it",
    "length_matched": "draws rows to match another selection and reads no score",
    "longest": "counts tokens, which no precision changes",
    "random": "draws rows and reads no score",
}
_HINT = "score with --precision fp32, or pick with a method that ranks by one score"


@dataclass(frozen=True, slots=True, eq=False)
class Boundary:
    """One point on the score axis where the selected rows begin or end.

    Rows are ordered by `direction`, ties by `tie` ascending. Rows up to and including (at, tie) lie
    before the boundary, the others behind it.
    """

    name: str
    direction: Literal["high", "low"]  # which scores come first
    at: float  # a score, in its published orientation
    tie: float  # +inf: every row with this very score lies before; -inf: none
    rows: Mask | None = None  # [n] the rows that it divides; None: all

    def before(self, scores: Floats, tie: Ints) -> Mask:
        """Return [n] whether each row lies before; False where the score is nan."""
        ahead = scores > self.at if self.direction == "high" else scores < self.at
        return np.asarray(ahead | ((scores == self.at) & (tie <= self.tie)))


@dataclass(frozen=True, eq=False)
class _Part:
    """One quota, or the whole pool if there is none."""

    name: str
    rows: Mask | None  # [n]
    order: Ints  # [m] eligible rows, best first
    chosen: Ints  # the prefix of `order` that the budget buys

    @property
    def all_taken(self) -> bool:
        return len(self.chosen) == len(self.order)


@dataclass(frozen=True, eq=False)
class Cuts:
    """A ranker and its budget: everything that turns scores into a set. Made by `cuts_of`."""

    ranker: Top | Middle
    budget: Budget
    tokens: Ints | None = None  # [n], if the budget counts tokens
    groups: Texts | None = None  # [n] label of each row, if there are quotas
    quotas: Mapping[str, int] | None = None  # rows per label; they replace the budget

    def kept(self, scores: Floats, tie: Ints) -> Mask:
        """Return [n] the rows that these scores select; a budget too large takes all eligible."""
        kept = np.zeros(len(scores), dtype=bool)
        for part in self._parts(scores, tie):
            kept[part.chosen] = True
        return kept

    def boundaries(self, scores: Floats, tie: Ints) -> tuple[Boundary, ...]:
        """Return every cut, where scores [n] place it now.

        A gate is a cut if the ranking starts at it (the ceiling of `high`, the floor of `low`, both
        for `middle`), or if every eligible row is taken, so that only gates bound the set.
        """
        parts = list(self._parts(scores, tie))
        found = _gates(self.ranker, any(part.all_taken for part in parts))
        for part in parts:
            if len(part.chosen) and not part.all_taken:
                found += _ends(self.ranker, part, scores, tie)
        return tuple(found)

    def _parts(self, scores: Floats, tie: Ints) -> Iterator[_Part]:
        if self.quotas is None or self.groups is None:
            order = self.ranker.rank(scores, tie).order
            try:
                n = len(scores)
                chosen = take(order, self.budget, n, tokens=self.tokens, allow_short=True)
            except (
                UsageError
            ):  # it buys not even one row, which `select` refuses: here it is no cut
                chosen = order[:0]
            yield _Part("", None, order, chosen)
            return
        for label, count in sorted(self.quotas.items()):
            rows = np.asarray(self.groups == label)
            order = self.ranker.rank(np.where(rows, scores, np.nan), tie).order
            yield _Part(f" of {label}", rows, order, order[:count])


def _gates(ranker: Top | Middle, all_taken: bool) -> list[Boundary]:
    gate, end = ranker.gate, ranker.direction if isinstance(ranker, Top) else "middle"
    sign, tie = ("<", np.inf) if gate.strict else ("<=", -np.inf)
    found = []
    if gate.below is not None and (all_taken or end != "low"):
        found.append(Boundary(f"gate {sign} {gate.below:g}", "high", gate.below, tie))
    if gate.above is not None and (all_taken or end != "high"):
        name = f"gate {sign.replace('<', '>')} {gate.above:g}"
        found.append(Boundary(name, "low", gate.above, tie))
    return found


def _ends(ranker: Top | Middle, part: _Part, scores: Floats, tie: Ints) -> list[Boundary]:
    """Return the end of the prefix; for `middle` both ends of its window of ranks."""

    def behind(row: int, name: str, direction: Literal["high", "low"]) -> Boundary:
        at = float(scores[row]), float(tie[row])
        return Boundary(f"{name}{part.name}", direction, *at, part.rows)

    if isinstance(ranker, Top):
        return [behind(part.chosen[-1], "budget", ranker.direction)]
    ranked = best_first(scores, tie, part.order, "high")
    inside = np.flatnonzero(np.isin(ranked, part.chosen))
    found = [behind(ranked[inside[0] - 1], "budget, upper end", "high")] if inside[0] else []
    if inside[-1] + 1 < len(ranked):
        found.append(behind(ranked[inside[-1]], "budget, lower end", "high"))
    return found


def refusal(ranker: object, method: str = "") -> str:
    """Return why a ranker or method has no cut to audit, as a sentence; "" if it has one."""
    if method in WITHOUT_A_CUT:
        return f"{method} has no cut to audit: it {WITHOUT_A_CUT[method]}"
    if type(ranker) in (Top, Middle):
        return ""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(ranker).__name__).lower()
    why = WITHOUT_A_CUT.get(name, "does not say where on the score axis it cuts")
    return f"the ranker {name} has no cut to audit: it {why}"


def cuts_of(
    ranker: Ranker,
    budget: Budget,
    *,
    method: str = "",
    tokens: Ints | None = None,
    groups: Texts | None = None,
    quotas: Mapping[str, int] | None = None,
) -> Cuts:
    """Return the cuts of a ranker under a budget, or under quotas.

    Args:
        ranker: Ranks the eligible rows.
        budget: How many rows or tokens are selected.
        method: Name of the method, for those that have no cut whatever their ranker is.
        tokens: [n] tokens of each row, for a budget in tokens.
        groups: [n] label of each row, for quotas.
        quotas: Rows per label.

    Raises:
        UsageError: The ranker or method has no cut, or the tokens or labels are missing.
    """
    sentence = refusal(ranker, method)
    if sentence:
        raise UsageError(sentence, hint=_HINT)
    assert isinstance(ranker, Top | Middle)
    if budget.unit == "tokens" and tokens is None and quotas is None:
        raise UsageError("the cut of a token budget cannot be audited without token counts")
    if quotas is not None and groups is None:
        raise UsageError("the cuts of quotas cannot be audited without each row's label")
    return Cuts(ranker, budget, tokens, groups, quotas)
