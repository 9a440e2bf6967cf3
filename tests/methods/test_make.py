"""From METHOD to selector: knobs checked in words, directions given once, dotted paths."""

import sys
from pathlib import Path

import numpy as np
import pytest

from pilotfish.config import parse_method
from pilotfish.errors import UsageError
from pilotfish.methods import make, same_scores
from tests.methods.world import planted, seen_of, selector_of


@pytest.mark.parametrize(
    ("method", "direction", "says"),
    [
        ("superfliter", None, "did you mean 'superfiltering'"),
        ("perplexity(spam=full)", None, "did you mean 'span'\\? It knows: span, end, direction"),
        ("perplexity(span=prompt)", None, "span='prompt' is not one of response, full"),
        ("perplexity(direction=mid)", None, "'mid' is not one of high, low, middle"),
        ("perplexity", "up", "'up' is not one of high, low, middle"),
        ("perplexity(direction=low)", "high", "given twice: 'low'.*'high'"),
        ("random(seed=1.5)", None, "seed=1.5 is not a whole number"),
        ("random(seed=true)", None, "seed=True is not a whole number"),
        ("random", "low", "random has no direction to choose"),
        ("longest(direction=low)", None, "longest has no direction to choose"),
        ("longest(k=3)", None, "It knows: nothing"),
        ("ifd(ceiling=high)", None, "ceiling='high' is not a number"),
        ("ifd(ceiling=null)", None, "ceiling=None is not a number"),
        ("no_such_module:Thing", None, "cannot import the method"),
        ("pathlib:Nope", None, "the module pathlib has no 'Nope'"),
        ("pathlib:Path", None, "is not a selector"),
    ],
)
def test_what_is_refused_in_words(method: str, direction: str | None, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        make(parse_method(method), direction)
    assert caught.value.exit_code == 2


def test_the_same_direction_twice_is_no_conflict() -> None:
    assert make(parse_method("perplexity(direction=low)"), "low").direction == "low"
    assert make(parse_method("ifd"), "low").direction == "low"
    assert make(parse_method("ifd")).direction == "high"


def test_whole_numbers_do_where_a_number_is_asked() -> None:
    assert selector_of("ifd(ceiling=1)") == selector_of("ifd(ceiling=1.0)")


def test_knobs_that_only_pick_leave_the_scores_alike() -> None:
    plain = selector_of("perplexity")
    assert same_scores(plain, selector_of("perplexity(direction=low,span=response)"))
    assert not same_scores(plain, selector_of("perplexity(span=full)"))
    assert same_scores(selector_of("ifd"), selector_of("ifd(ceiling=0.9)"))


OWN = '''
from dataclasses import dataclass
from pilotfish.records import Need

class Bare:
    """Seven for all."""
    needs = (Need("nll"),)
    def score(self, seen):
        return [7.0] * len(seen)

@dataclass(frozen=True)
class Tuned:
    power: float
    direction: str = "low"
    needs = (Need("nll"),)
    def score(self, seen):
        return seen[self.needs[0]].mean ** self.power

class Crooked:
    needs = ()
    def score(self, seen):
        return [1.0]
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's in the working folder, which is not on sys.path."""
    (tmp_path / "my_own_method.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    monkeypatch.delitem(sys.modules, "my_own_method", raising=False)
    return "my_own_method"


def test_a_class_with_needs_and_score_is_enough(own: str) -> None:
    before = list(sys.path)
    selector = make(parse_method(f"{own}:Bare"))
    assert sys.path == before
    world = planted(seen_of(20), selector.needs[0], 4, np.inf)
    scores = selector.score(world)
    assert np.isnan(scores[4]) and selector.reasons(world, scores)[4] == "nonfinite"
    assert selector.formula == "Seven for all." and selector.direction == "high"
    assert 4 not in selector.ranker().rank(scores, np.arange(20)).order
    assert make(parse_method(f"{own}:Bare"), "low").direction == "low"


def test_knobs_of_an_own_dataclass_are_checked(own: str) -> None:
    selector = make(parse_method(f"{own}:Tuned(power=2)"))
    assert selector.direction == "low"
    assert make(parse_method(f"{own}:Tuned(power=2)"), "high").direction == "high"
    assert not same_scores(selector, make(parse_method(f"{own}:Tuned(power=3)")))
    with pytest.raises(UsageError, match="needs 'power'"):
        make(parse_method(f"{own}:Tuned"))
    with pytest.raises(UsageError, match="power='x' is not a number"):
        make(parse_method(f"{own}:Tuned(power=x)"))
    with pytest.raises(UsageError, match="has no 'powre'; did you mean 'power'"):
        make(parse_method(f"{own}:Tuned(powre=2)"))


def test_scores_of_the_wrong_shape_are_refused(own: str) -> None:
    with pytest.raises(UsageError, match=r"returned shape \(1,\) for 20 rows"):
        make(parse_method(f"{own}:Crooked")).score(seen_of(20))


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        ("from pilotfish.gone import Top\nclass Own: ...\n", "rankers are in pilotfish.methods"),
        ("import not_there_at_all\nclass Own: ...\n", "imports not_there_at_all: install it"),
        (
            "from pilotfish.records import Need\nclass Own:\n    needs = (Need('nll'),)\n"
            "    def score(self, seen): ...\n"
            "    def ranker(self):\n        from pilotfish.gone import Top\n",
            "rankers are in pilotfish.methods",
        ),
    ],
)
def test_an_import_that_a_method_of_ones_own_lacks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, hint: str
) -> None:
    module = f"own_{abs(hash(body))}"
    (tmp_path / f"{module}.py").write_text(body)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"cannot import the method 'own_\d+:Own'") as caught:
        make(parse_method(f"{module}:Own")).ranker()
    assert hint in str(caught.value.hint)
