"""Where the cuts lie: by hand, and that every kept row lies on the kept side of all of them."""

import numpy as np
import pytest

from pilotfish.budget import parse_budget, take
from pilotfish.errors import UsageError
from pilotfish.methods.rankers import Gate, LengthMatched, Middle, Random, Top
from pilotfish.scoring.audit import cuts_of, refusal

SCORES = np.array([0.2, 1.0, 0.9, np.nan, 0.5, 1.3, 0.9, 0.7])
TIE = np.arange(8)


def names(ranker, budget="2rows", scores=SCORES, **options):
    cuts = cuts_of(ranker, parse_budget(budget), **options)
    return [cut.name for cut in cuts.boundaries(scores, TIE)]


def test_the_budget_cut_stands_at_the_last_kept_row() -> None:
    cuts = cuts_of(Top("high"), parse_budget("3rows"))
    (cut,) = cuts.boundaries(SCORES, TIE)
    assert (cut.name, cut.at, cut.tie) == ("budget", 0.9, 2)  # 1.3, 1.0, and the first of the ties
    assert cut.before(SCORES, TIE).nonzero()[0].tolist() == [1, 2, 5]
    assert (cut.before(SCORES, TIE) == cuts.kept(SCORES, TIE)).all()


def test_the_strict_gate_leaves_out_its_bound_and_the_other_keeps_it() -> None:
    for strict, outside in ((True, [1, 5]), (False, [5])):
        gate = Gate(below=1.0, strict=strict)
        cut = cuts_of(Top("high", gate), parse_budget("2rows")).boundaries(SCORES, TIE)[0]
        assert cut.before(SCORES, TIE).nonzero()[0].tolist() == outside
        cut = cuts_of(Top("low", Gate(above=0.9, strict=strict)), parse_budget("1rows"))
        found = cut.boundaries(SCORES, TIE)[0].before(SCORES, TIE).nonzero()[0].tolist()
        assert found == ([0, 2, 4, 6, 7] if strict else [0, 4, 7])


@pytest.mark.parametrize(
    ("ranker", "budget", "expected"),
    [
        (Top("high", Gate(below=1.0)), "2rows", ["gate < 1", "budget"]),
        (Top("high", Gate(below=1.0, strict=False)), "2rows", ["gate <= 1", "budget"]),
        (Top("low", Gate(below=1.0)), "2rows", ["budget"]),  # the ceiling is far from the low end
        (Top("low", Gate(above=0.3)), "2rows", ["gate > 0.3", "budget"]),
        (Top("low", Gate(below=1.0)), "5rows", ["gate < 1"]),  # all five eligible rows are taken
        (Top("low", Gate(below=1.0)), "9rows", ["gate < 1"]),
        (Top("high"), "7rows", []),
        (Middle(), "2rows", ["budget, upper end", "budget, lower end"]),
        (Middle(Gate(below=1.0)), "5rows", ["gate < 1"]),
    ],
)
def test_which_cuts_there_are(ranker, budget, expected) -> None:
    assert names(ranker, budget) == expected


def test_a_token_budget_cuts_where_take_does() -> None:
    tokens = np.array([5, 5, 5, 5, 5, 5, 50, 5])
    cuts = cuts_of(Top("high"), parse_budget("20tokens"), tokens=tokens)
    order = Top("high").rank(SCORES, TIE).order
    expected = take(order, parse_budget("20tokens"), 8, tokens=tokens)
    assert cuts.kept(SCORES, TIE).nonzero()[0].tolist() == sorted(expected)
    assert cuts.boundaries(SCORES, TIE)[0].at == 0.9


def test_a_budget_that_buys_no_row_is_no_cut() -> None:
    cuts = cuts_of(Top("high"), parse_budget("1%"))  # of 8 rows
    assert cuts.boundaries(SCORES, TIE) == ()
    assert not cuts.kept(SCORES, TIE).any()
    empty = np.full(8, np.nan)
    assert names(Top("high", Gate(below=1.0)), scores=empty) == ["gate < 1"]


def test_each_quota_has_a_cut_of_its_own() -> None:
    groups = np.array(["a", "a", "b", "b", "b", "b", "a", "a"], dtype=object)
    cuts = cuts_of(Top("high"), parse_budget("9rows"), groups=groups, quotas={"a": 2, "b": 1})
    one, other = cuts.boundaries(SCORES, TIE)
    assert (one.name, one.at, other.name, other.at) == ("budget of a", 0.9, "budget of b", 1.3)
    assert cuts.kept(SCORES, TIE).nonzero()[0].tolist() == [1, 5, 6]
    assert (one.rows == (groups == "a")).all()


@pytest.mark.parametrize("budget", ["1rows", "7rows", "40%", "30rows", "300tokens"])
@pytest.mark.parametrize(
    "ranker",
    [
        Top("high"),
        Top("low", Gate(below=1.0)),
        Top("high", Gate(1.0, 0.5)),
        Middle(Gate(below=1.1)),
    ],
)
def test_the_kept_rows_are_those_on_one_side_of_every_cut(ranker, budget) -> None:
    rng = np.random.default_rng(4)
    scores = rng.normal(0.8, 0.3, 40).round(1)  # many ties
    scores[rng.random(40) < 0.1] = np.nan
    tie, tokens = rng.permutation(40), rng.integers(1, 60, 40)
    cuts = cuts_of(ranker, parse_budget(budget), tokens=tokens)
    kept = cuts.kept(scores, tie)
    inside = np.isfinite(scores)
    for cut in cuts.boundaries(scores, tie):
        before = cut.before(scores, tie)
        assert len(set(before[kept])) == 1, cut.name
        inside &= before == before[kept][0]
    far_gate = ranker.gate.reasons(scores) == ""
    assert (kept == (inside & far_gate)).all()


def test_what_has_no_cut_is_refused_by_name() -> None:
    matched = LengthMatched(np.arange(2), np.array(["a"] * 8, dtype=object), np.zeros(8, np.int64))
    for ranker, name in ((Random(SCORES), "random"), (matched, "length_matched")):
        with pytest.raises(UsageError, match=f"the ranker {name} has no cut to audit: it draws"):
            cuts_of(ranker, parse_budget("2rows"))

    class FacilityLocation:
        pass

    class Mine:
        pass

    assert "values each row by the rows taken before it" in refusal(FacilityLocation())
    assert "does not say where" in refusal(Mine())
    assert "random has no cut" in refusal(Top("high"), "random")
    assert refusal(Top("high"), "ifd") == refusal(Middle()) == ""


def test_missing_counts_and_labels_are_said() -> None:
    with pytest.raises(UsageError, match="token counts"):
        cuts_of(Top("high"), parse_budget("20tokens"))
    with pytest.raises(UsageError, match="label"):
        cuts_of(Top("high"), parse_budget("2rows"), quotas={"a": 1})
