"""Budgets as typed ("10%", "500rows", "2Mtokens"), and the prefix of a ranking that fits."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import numpy as np

from pilotfish.errors import UsageError
from pilotfish.records import Ints

_SHAPE = re.compile(r"(-?\d+(?:_\d+)*(?:\.\d+)?)\s*(%|([kmb]?)\s*(rows?|tokens?))", re.IGNORECASE)
_SCALE = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
_HINT = "write 10% (of all pool rows), 500rows, or 2Mtokens; k, M and B are 10^3, 10^6 and 10^9"


@dataclass(frozen=True, slots=True)
class Budget:
    """How much to keep: percent of all rows of the pool, a number of rows or of tokens."""

    kind: Literal["percent", "rows", "tokens"]
    amount: Decimal

    @property
    def unit(self) -> Literal["rows", "tokens"]:
        """What the budget counts; a percentage is of rows."""
        return "tokens" if self.kind == "tokens" else "rows"

    @property
    def text(self) -> str:
        """Canonical spelling; `parse_budget(b.text) == b`."""
        plain = f"{self.amount:f}"
        plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
        return f"{plain}%" if self.kind == "percent" else f"{plain}{self.kind}"

    @property
    def slug(self) -> str:
        """The spelling for file names: `10pct`, `500rows`."""
        return self.text.replace("%", "pct")


def parse_budget(text: str) -> Budget:
    """Parse a budget. A number without a unit is refused, since 10 may be rows or percent.

    Raises:
        UsageError: The text is not a budget, or the budget is 0 or more than the pool (exit 2).
    """
    match = _SHAPE.fullmatch(text.strip())
    if not match:
        raise UsageError(f"cannot read the budget '{text}'", hint=_HINT)
    amount = Decimal(match[1].replace("_", "")) * _SCALE[(match[3] or "").lower()]
    if amount <= 0:
        raise UsageError(f"the budget '{text}' is not above zero", hint=_HINT)
    if match[2] == "%":
        if amount > 100:
            raise UsageError(f"the budget '{text}' is more than the whole pool", hint=_HINT)
        return Budget("percent", amount.normalize())
    kind: Literal["rows", "tokens"] = "tokens" if match[4].lower().startswith("token") else "rows"
    if amount != amount.to_integral_value():
        raise UsageError(f"the budget '{text}' is not a whole number of {kind}", hint=_HINT)
    return Budget(kind, Decimal(int(amount)))


def resolve(budget: Budget, n_pool: int) -> int:
    """Return the budget in rows or tokens: for percent, floor(p * N / 100) in decimal arithmetic.

    Args:
        budget: The budget.
        n_pool: All rows of the pool, unscorable ones too.
    """
    if budget.kind == "percent":
        return int(budget.amount * n_pool // 100)
    return int(budget.amount)


def take(
    order: Ints,
    budget: Budget,
    n_pool: int,
    *,
    tokens: Ints | None = None,
    allow_short: bool = False,
) -> Ints:
    """Return the prefix of a ranking that fits the budget.

    A token budget ends before the first row that does not fit. Shorter rows further down are not
    taken instead: that would favour short rows, and smaller budgets would not keep subsets.

    Args:
        order: [m] eligible pool indices, best first.
        budget: How much to keep.
        n_pool: All rows of the pool.
        tokens: [n_pool] tokens of every row, for a token budget.
        allow_short: Keep fewer rows if the ranking is too short.

    Raises:
        UsageError: The ranking is too short and `allow_short` is off, or no row would be kept; the
            message names both numbers (exit 2).
    """
    wanted = resolve(budget, n_pool)
    if budget.unit == "tokens":
        return _take_tokens(order, wanted, tokens, allow_short=allow_short)
    if wanted == 0:
        raise UsageError(f"{budget.text} of {n_pool:,} pool rows is 0 rows", hint=_HINT)
    if len(order) == 0 or (wanted > len(order) and not allow_short):
        raise _short(wanted, len(order), "rows", f"of {n_pool:,} pool rows {len(order):,}")
    return order[:wanted]


def _take_tokens(order: Ints, wanted: int, tokens: Ints | None, *, allow_short: bool) -> Ints:
    if tokens is None:
        raise UsageError(
            "a token budget needs the token counts of the pool, which scoring measures",
            hint="run pilotfish score first, or give the budget in rows or percent",
        )
    spent = np.cumsum(tokens[order], dtype=np.int64)  # [m]
    total = int(spent[-1]) if len(spent) else 0
    if len(order) == 0 or (total < wanted and not allow_short):
        raise _short(wanted, total, "tokens", f"the {len(order):,} eligible rows hold {total:,}")
    kept = order[: int(np.searchsorted(spent, wanted, side="right"))]
    if len(kept) == 0:
        raise UsageError(
            f"the budget is {wanted:,} tokens but the best row alone has {int(spent[0]):,}",
            hint="give a larger budget",
        )
    return kept


def _short(wanted: int, had: int, unit: str, seen: str) -> UsageError:
    """The error for a budget that cannot be met; it names both numbers."""
    verb = f"{seen} may be picked" if unit == "rows" else seen
    hint = "give a smaller budget" + (
        ", or pass --allow-short to take what there is" if had else ""
    )
    return UsageError(f"the budget is {wanted:,} {unit} but {verb}", hint=hint)
