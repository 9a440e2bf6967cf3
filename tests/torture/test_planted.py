"""S5: what is told of planted rows is what happens to them in a real pool, by every method."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.data.run_pool import pool_of
from pilotfish.report import build
from pilotfish.selection.canaries.attacks import ATTACKS, CONTROLS, UNCHANGED
from pilotfish.selection.canaries.lift import measure_canaries
from pilotfish.selection.canaries.measure import canaries_of
from pilotfish.selection.files import decisions_of
from pilotfish.selection.select import SelectConfig, select
from pilotfish.store import Run
from tests.figures import Reached, size
from tests.selection.canaries.scored_runs import lines, made, records, weak

__all__ = ["weak"]

pytestmark = pytest.mark.torture
LOW, MIDDLE = "perplexity(direction=low)", "perplexity"
SCORED = f"superfiltering,ifd(ceiling=9),{LOW}"
PICKS: dict[str, dict[str, Any]] = {
    "superfiltering": {"method": "superfiltering", "budget": "12rows"},
    "ifd": {"method": "ifd(ceiling=9)", "budget": "12rows"},
    "low": {"method": LOW, "budget": "12rows"},
    "high": {"method": MIDDLE, "score": LOW, "direction": "high", "budget": "12rows"},
    "middle": {"method": MIDDLE, "score": LOW, "direction": "middle", "budget": "12rows"},
    "tokens": {"method": LOW, "budget": "260tokens"},
    "longest": {"method": "longest", "budget": "12rows"},
}
BY_ID = {"random": {"method": "random", "budget": "12rows"}}  # no row keeps its id elsewhere


def picked(folder: Path, rows: list[dict[str, Any]], weak: str, picks: dict[str, Any]) -> Run:
    run = made(folder, rows, weak, SCORED)
    for name, how in picks.items():
        select(run.root, SelectConfig(name=name, **how))
    return run


def slipped_in(folder: Path, weak: str, seed: int, *, rows: int) -> tuple[int, int]:
    """(cases, cases told wrongly) of planted rows written into the data of one pool."""
    data = records(60, seed)
    run = picked(folder / "pool", data, weak, PICKS)
    measure_canaries(run.root, [*PICKS], rows)
    plants = canaries_of(pool_of(run), rows)
    told = {name: lines(run, name) for name in PICKS}
    cases = wrong = 0
    chosen = np.random.default_rng(seed).permutation(len(plants.rows))[: size(2, 16)]
    for at in map(int, chosen):
        row = plants.rows[at]
        more = {"prompt": row.turns[0].content, "completion": row.response}
        real = picked(folder / f"with-{at}", [*data, more], weak, PICKS)
        for name in PICKS:
            kept = decisions_of(real, name, "kept")["kept"].to_pylist()[-1]
            cases, wrong = cases + 1, wrong + int(told[name][at]["kept"] != kept)
    return cases, wrong


def test_told_is_what_happens(tmp_path: Path, weak: str, reached: Reached) -> None:
    found = [
        slipped_in(tmp_path / str(seed), weak, seed, rows=5) for seed in range(size(1, 2))
    ]  # fmt: skip
    cases, wrong = (sum(each) for each in zip(*found, strict=True))
    assert not wrong
    reached("S5", f"{cases} of {cases} times a planted row that was written into the data, scored "
            f"and picked anew ({len(PICKS)} ways to pick) was kept where the lift counts it as "
            "kept and nowhere else")  # fmt: skip


def test_every_method_has_its_lift_in_the_report(
    tmp_path: Path, weak: str, reached: Reached
) -> None:
    run = picked(tmp_path, records(200), weak, PICKS | BY_ID)
    measure_canaries(run.root, [*PICKS, *BY_ID], size(20, 100))
    found = {one["selection"]: one for one in build(run)["canaries"]}
    assert found.keys() == {*PICKS, *BY_ID}
    attacks = [name for name in ATTACKS if name not in CONTROLS]
    for name, one in found.items():
        assert [each["attack"] for each in one["attacks"] if not each["control"]] == attacks
        assert all(each["low"] <= each["lift"] <= each["high"] for each in one["attacks"]), name
        assert {*one["injection"]} == {"bait", "benign", "excess"}
    worst = _own_scores(run)
    assert worst < 1e-6
    reached("S5", f"{len(attacks)} attacks on {len(found)} selections in the report, lift and "
            "benign drift with intervals; rows as they came scored again within "
            f"{worst:.0e}")  # fmt: skip


def _own_scores(run: Run) -> float:
    """The largest relative difference between a row as it came and its score in the pool."""
    worst = 0.0
    for name in PICKS:
        own = decisions_of(run, name, "score")["score"].to_pylist()
        for line in lines(run, name):
            if line["attack"] == UNCHANGED:
                worst = max(worst, abs(line["score"] / own[line["row"]] - 1))
    return worst
