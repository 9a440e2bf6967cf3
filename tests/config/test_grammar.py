"""METHOD text and recipes: what may be typed, and the sentence for what may not."""

from pathlib import Path
from typing import Any

import pytest

from pilotfish.config import make_recipe, parse_method, parse_methods, read_recipe
from pilotfish.errors import UsageError

BASE: dict[str, Any] = {"data": "d.jsonl", "weak": "w", "strong": "s"}


@pytest.mark.parametrize(
    ("text", "name", "args", "squeezed"),
    [
        ("ifd", "ifd", {}, "ifd"),
        (" perplexity( span = response )", "perplexity", {"span": "response"}, None),
        ("a(x=1, y=2.5, z=true, w=null)", "a", {"x": 1, "y": 2.5, "z": True, "w": None}, None),
        ("a(x=.5, y=-.25, z=.)", "a", {"x": 0.5, "y": -0.25, "z": "."}, None),
        ("a(t='x, (y) z')", "a", {"t": "x, (y) z"}, "a(t='x, (y) z')"),
        ("my_module:MyThing", "my_module:MyThing", {}, None),
        ("pkg.mod:Thing(k='1')", "pkg.mod:Thing", {"k": "1"}, None),
        ("a()", "a", {}, "a()"),
    ],
)
def test_method(text: str, name: str, args: dict[str, Any], squeezed: str | None) -> None:
    method = parse_method(text)
    assert (method.name, method.args) == (name, args)
    assert method.text == (squeezed or text.replace(" ", ""))


def test_lists_split_outside_parentheses_and_quotes() -> None:
    found = parse_methods("ifd,perplexity(span=response,direction=low),x(t='a,b')")
    assert [m.name for m in found] == ["ifd", "perplexity", "x"]


@pytest.mark.parametrize(
    "text",
    ["", "a(", "a)", "a(b)", "a(b=)", "a(b=1,b=2)", "a(b=[1])", "a b", "a(b=1)c", "a('b=1)", "1a"],
)
def test_unreadable_methods_are_refused_in_words(text: str) -> None:
    with pytest.raises(UsageError):
        parse_method(text)


def test_the_command_line_wins_over_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("data: d\nweak: w\nstrong: s\ntrain:\n  max_steps: 5\n")
    recipe = make_recipe(read_recipe(path), ["train.max_steps=7", "train.learning_rate=1.0e-4"])
    assert (recipe.train.max_steps, recipe.train.learning_rate) == (7, 1e-4)


@pytest.mark.parametrize(("level", "seeds"), [("none", 1), ("quick", 2), ("full", 3)])
def test_seeds_follow_the_evidence(level: str, seeds: int) -> None:
    assert make_recipe({**BASE, "evidence": level}).n_seeds == seeds
    assert make_recipe({**BASE, "evidence": level, "seeds": 5}).n_seeds == 5


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"budgett": "10%"}, "did you mean 'budget'"),
        ({"train": {"max_stepz": 3}}, "did you mean 'max_steps'"),
        ({"seeds": "many"}, "seeds"),
        ({"train": {"max_steps": 0}}, "train.max_steps"),
        ({"evidence": "some"}, "evidence"),
    ],
)
def test_wrong_settings_meet_a_sentence(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words.replace("'", ".")):
        make_recipe({**BASE, **settings})


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(UsageError, match="lacks 'strong'"):
        make_recipe({"data": "d", "weak": "w"})


@pytest.mark.parametrize(
    "text", ["a: &x 1\nb: *x", "- 1", "a: !!python/object:os.system {}", "a: [", "\x00"]
)
def test_hostile_yaml_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(UsageError):
        read_recipe(path)


def test_a_huge_recipe_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("# " + "x" * 1_000_001)
    with pytest.raises(UsageError, match="larger"):
        read_recipe(path)
