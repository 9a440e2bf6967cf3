"""Contenders take turns, and a ratio is of runs that stood next to each other."""

import pytest
from benchmarks.paired import Spread, Times, race, speedup


class Noted:
    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def prepare(self) -> None:
        self.log.append(f"({self.name})")

    def run(self) -> None:
        self.log.append(self.name)


def turns(repeats: int, **options: object) -> str:
    log: list[str] = []
    race({name: Noted(name, log) for name in "abc"}, repeats, **options)  # type: ignore[arg-type]
    return "".join(log)


def test_every_round_has_everybody_and_another_begins() -> None:
    warm, first, second = "(a)a(b)b(c)c", "(a)a(b)b(c)c", "(b)b(c)c(a)a"
    assert turns(2) == warm + first + second


def test_slow_ones_join_the_first_rounds_only() -> None:
    said = turns(3, seldom={"b"}, seldom_repeats=1)
    assert said.count("(b)") == 2 and said.count("(a)") == said.count("(c)") == 4


def test_speedup_is_the_median_of_the_rounds_both_ran() -> None:
    base = Times(9.0, (2.0, 6.0, 100.0, 100.0))
    found = speedup(base, Times(9.0, (1.0, 2.0, 100.0)))
    assert found == Spread(2.0, 1.0, 3.0, 3)
    assert found.as_dict() == {"median": 2.0, "low": 1.0, "high": 3.0, "repeats": 3}


def test_a_drifting_machine_leaves_the_ratio_alone() -> None:
    base = Times(1.0, (1.0, 4.0, 9.0))
    assert speedup(base, Times(1.0, (0.5, 2.0, 4.5))) == Spread(2.0, 2.0, 2.0, 3)


def test_start_up_is_what_the_first_run_took_longer() -> None:
    assert Times(5.0, (1.0, 2.0, 3.0)).start_up == 3.0
    assert Times(1.0, (1.0, 2.0, 3.0)).start_up == 0.0


def test_no_repeats_no_spread() -> None:
    with pytest.raises(ValueError, match="no repeats"):
        Spread.of([])
