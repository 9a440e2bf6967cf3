"""Cached numbers change only together with the format number in their key."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.goldens import compare
from tests.goldens.__main__ import update
from tests.goldens.compare import COMMAND, Golden, differences
from tests.goldens.signals import SCORED, TAUGHT
from tests.goldens.tables import GOLDENS


@pytest.mark.parametrize("name", GOLDENS)
def test_numbers_change_only_with_their_format_number(name: str) -> None:
    golden = GOLDENS[name]
    known = golden.read()
    assert known["format"] == golden.format, (
        f"{golden.constant} is {golden.format} but {golden.path.name} holds the numbers of "
        f"{known['format']}: run `{COMMAND}`"
    )
    changed = differences(known["cases"], golden.compute())
    assert not changed, (
        f"what is cached under {golden.constant} changed and the number did not: raise "
        f"{golden.constant} and run `{COMMAND}`. Changed: " + "; ".join(changed[:10])
    )


def test_every_signal_has_golden_numbers() -> None:
    from pilotfish.engine.signals import SIGNALS
    from pilotfish.tokenization.render import FORMS

    assert {need.signal for need in (*SCORED, *TAUGHT)} == {*SIGNALS, "length"}
    assert {need.text for need in SCORED} == {*FORMS}
    assert {(need.text, need.given) for need in SCORED if need.signal == "nll"} == {
        (form, given) for form in FORMS for given in ("prompt", "nothing")
    }


CASES: dict[str, Any] = {"a": {"ids": [1, 2], "total ~": [1.0, None], "logs ~~": [0.5]}}


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("ids", [1, 3], True),
        ("total ~", [1.0 + 1e-6, None], False),
        ("total ~", [1.001, None], True),
        ("total ~", [1.0, 0.0], True),
        ("total ~", [1.0], True),
        ("logs ~~", [0.5005], False),
        ("logs ~~", [0.51], True),
    ],
)
def test_a_difference_is_named(key: str, value: Any, named: bool) -> None:
    found = differences(CASES, {"a": {**CASES["a"], key: value}, "new": {"ids": [9]}})
    assert [line.split(" was ")[0] for line in found] == ([f"a: {key}"] if named else [])


def test_a_missing_case_is_a_difference_and_a_skipped_one_is_not() -> None:
    assert len(differences(CASES, {})) == 3
    assert differences(CASES, {"a": None}) == []


def test_the_script_refuses_changed_numbers_under_an_old_format_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "HERE", tmp_path)
    golden = Golden("some", "SOME_FORMAT", 1, lambda: CASES)
    update(golden)
    assert golden.read()["cases"] == CASES
    other = replace(golden, compute=lambda: {"a": {**CASES["a"], "ids": [1, 3]}, "b": {"ids": [4]}})
    with pytest.raises(SystemExit, match="raise it, then run this again"):
        update(other)
    assert golden.read()["cases"] == CASES
    update(replace(golden, compute=lambda: {**CASES, "b": {"ids": [4]}}))  # one more case
    assert set(golden.read()["cases"]) == {"a", "b"} and golden.read()["format"] == 1
    update(replace(other, format=2))
    assert golden.read()["format"] == 2 and golden.read()["cases"]["a"]["ids"] == [1, 3]
