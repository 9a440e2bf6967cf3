"""What a selection must heed beside its scores: copies kept once, a budget shared among groups."""

from dataclasses import dataclass
from typing import Any

from pilotfish.budget import Budget
from pilotfish.errors import UsageError
from pilotfish.methods.rankers import Ranker
from pilotfish.selection.candidates import Candidates, ScoredRow
from pilotfish.selection.dedup import DuplicateRows, check_kind, find_duplicates
from pilotfish.selection.quota import Quota, parse_quota
from pilotfish.selection.topk import TopK, gathered, select_topk
from pilotfish.selection.topk_by_group import select_by_group


@dataclass(frozen=True)
class Constraints:
    """`dedup`: "exact" or "near" copies of a better-ranked row go. `quota`: rows by group."""

    dedup: str | None = None
    quota: Quota | None = None

    @classmethod
    def read(cls, dedup: str | None, quota: str | None) -> "Constraints":
        """As typed; UsageError (exit 2) for another kind of copies, or a quota unread."""
        check_kind(dedup)
        return cls(dedup, None if quota is None else parse_quota(quota))

    @classmethod
    def again(cls, facts: dict[str, Any]) -> "Constraints":
        """Those a selection was made under, as run.json tells them."""
        quota = facts.get("quota", {}).get("as")
        return cls.read(facts.get("dedup", {}).get("kind"), quota)

    def check_budget(self, budget: Budget) -> None:
        """UsageError (exit 2) for a budget that cannot be shared out."""
        if self.quota is not None and budget.unit == "tokens":
            raise UsageError(
                "quotas share out rows, not tokens", hint="give the budget in rows or percent"
            )

    def __bool__(self) -> bool:
        return self != NONE

    def check_scores(self, column: str, precision: str, cascade: bool) -> None:
        """UsageError (exit 2) where scores do not say enough to heed these limits."""
        if self and cascade:
            raise UsageError(
                f"'{column}' was scored by a cascade, which promises its best rows alone and "
                "nothing of --dedup and --quota",
                hint="score without --cascade",
            )
        if self.dedup == "near" and precision != "fp32":
            raise UsageError(
                f"'{column}' was scored in {precision}: which of two near copies ranks better is "
                "not audited",
                hint="score with --precision fp32, or take --dedup exact",
            )


NONE = Constraints()


def spend(
    rows: Candidates,
    scored: ScoredRow,
    ranker: Ranker,
    budget: Budget,
    limits: Constraints = NONE,
    *,
    allow_short: bool = False,
) -> TopK:
    """Spend a budget on scores within limits; raises UsageError like `budget.take`."""
    copies = duplicates_in(rows, scored, ranker, limits)
    if limits.quota is not None:
        return select_by_group(
            rows, scored, ranker, budget, limits.quota, allow_short=allow_short, copies=copies
        )
    return select_topk(rows, scored, ranker, budget, allow_short=allow_short, copies=copies)


def duplicates_in(
    rows: Candidates, scored: ScoredRow, ranker: Ranker, limits: Constraints
) -> DuplicateRows | None:
    """Copies among the rows that may be picked; None where nobody asks for them."""
    if limits.dedup is None:
        return None
    some = gathered(rows, scored, ranker, None)
    return find_duplicates(rows, some.place[ranker.rank(some.scores, some.tie).order], limits.dedup)


def describe(choice: TopK) -> dict[str, Any]:
    """What run.json says of the limits; {} where there were none."""
    copies = choice.copies
    dedup = {} if copies is None else {"dedup": {"kind": copies.kind, "dropped": copies.dropped}}
    return {**dedup, **{key: choice.notes[key] for key in ("quota",) if key in choice.notes}}


def sentences_of(facts: dict[str, Any]) -> list[str]:
    """What copies and quotas did to a selection, in words."""
    said = []
    if "dedup" in facts:
        what = {"exact": "copies", "near": "copies or near copies"}[facts["dedup"]["kind"]]
        dropped = facts["dedup"]["dropped"]
        said.append(f"copies: {dropped:,} rows are {what} of a better-ranked one and were left out")
    if "quota" in facts:
        groups = facts["quota"]["groups"].items()
        parts = (f"{name} {told['kept']:,} of {told['pool']:,}" for name, told in groups)
        said.append(f"quota {facts['quota']['as']}: " + ", ".join(parts))
    return said
