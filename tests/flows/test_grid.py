"""Arms x budgets x methods in one run: nested rows, one forward pass, nothing done twice."""

import json
import time
from typing import Any

import pytest

from pilotfish.config import Recipe, make_recipe
from pilotfish.errors import UsageError
from pilotfish.flows.arms import grid_of
from pilotfish.flows.experiment import run_experiment
from pilotfish.flows.selection import kept_of
from pilotfish.store import Run
from tests.flows.worlds import World


def recipe(**more: Any) -> Recipe:
    return make_recipe({"data": "rows.jsonl", "weak": "w", "strong": "s", **more})


def names(**more: Any) -> list[str]:
    return [arm.name for arm in grid_of(recipe(**more))]


def test_arms_that_spend_a_budget_stand_at_every_budget() -> None:
    found = names(budgets=["10%", "5%", "200rows"], evidence="quick")
    assert found == [
        "base", "random", "selected", "random@5pct", "selected@5pct", "random@200rows",
        "selected@200rows",
    ]  # fmt: skip


def test_the_verdicts_budget_is_the_first_unless_one_is_named() -> None:
    assert recipe(budgets=["20%", "5%"]).all_budgets == ["20%", "5%"]
    assert recipe(budgets=["20%", "5%"], budget="5%").all_budgets == ["5%", "20%"]
    assert recipe().all_budgets == ["10%"]


def test_other_methods_have_arms_of_their_own_at_every_budget() -> None:
    found = names(budgets=["10%", "5%"], methods={"easy": "perplexity"}, arms=["selected"])
    assert found == ["selected", "easy", "selected@5pct", "easy@5pct"]


def test_the_second_table_has_the_arms_whose_rows_are_not_as_many() -> None:
    found = names(
        budgets=["10%", "5%"], arms=["base", "selected", "full"], equal=["steps", "epochs"]
    )
    assert found == ["base", "selected", "full", "selected@5pct", "full@epochs",
                     "selected@5pct@epochs"]  # fmt: skip


def test_equal_tokens_and_compute_bring_their_controls() -> None:
    found = names(arms=["selected"], equal=["tokens", "compute"])
    assert found == ["selected", "random", "random_tokens", "random_compute"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"methods": {"random": "ifd"}}, "an arm of its own"),
        ({"methods": {"a@b": "ifd"}}, "may not have '@'"),
        ({"methods": {"x": "ifd"}, "losses": {"x": "kd"}}, "two arms would be called 'x'"),
        ({"arms": ["selcted@5pct"]}, "did you mean"),
        ({"arms": ["full@5pct"]}, "hang on no budget"),
    ],
)
def test_what_cannot_be_an_arm_is_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        names(**more)


GRID: dict[str, Any] = {
    "budget": "30%", "budgets": ["30%", "10%"],
    "arms": ["base", "random", "selected", "full"],
    "seeds": 2,
    "methods": {"hard": "perplexity(direction=high)"},
    "equal": ["steps", "epochs", "tokens", "compute"],
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, models: tuple[str, str]) -> World:
    return World(tmp_path_factory.mktemp("grid"), *models)


@pytest.fixture(scope="module")
def done(shared: World) -> Run:
    return run_experiment(grid(shared), str(shared.out))


def grid(world: World, **more: Any) -> Recipe:
    return make_recipe({**world.settings(), **GRID, **more})


def test_a_whole_grid(done: Run) -> None:
    plan = done.section("evidence")
    judged = {path.parent.name for path in done.root.glob("judge/*/seed-*.json")}
    assert judged == set(plan["arms"]) and "hard@10pct" in judged
    assert plan["budgets"] == {"": "30%", "10pct": "10%"}
    assert set(kept_of(done, "selected@10pct")) < set(kept_of(done, "selected"))
    assert set(kept_of(done, "random@10pct-1")) < set(kept_of(done, "random-1"))
    # every method was read off one pass over the pool
    costs = [e for e in events(done) if e["kind"] == "cost" and e["stage"] == "score"]
    assert [e["rows"] for e in costs if "tokens" in e] == [24]


def test_what_is_held_equal_is_equal(done: Run) -> None:
    chosen, steps = done.section("selections"), done.section("evidence")["steps"]
    for at in ("", "@10pct"):
        tokens = chosen[f"selected{at}"]["tokens"]
        assert 0 <= tokens - chosen[f"random_tokens{at}-0"]["tokens"] < 40
    rows = {name: facts["delivered"] for name, facts in chosen.items()}
    assert made(done, "selected@10pct")["steps"] == steps
    half = made(done, "full@epochs")
    assert half["steps"] == -(-steps * half["rows"] // rows["selected"])
    longer = made(done, "random_compute@10pct")
    grown = rows["random_compute@10pct-0"] / rows["selected@10pct"]
    assert grown > 1
    assert longer["steps"] == pytest.approx(steps * grown, abs=1)


def test_a_second_run_does_nothing_and_another_budget_only_adds(shared: World, done: Run) -> None:
    before = stamps(done)
    count = len(events(done))
    run_experiment(grid(shared), str(shared.out))
    assert stamps(done) == before
    run_experiment(grid(shared, budgets=["30%", "10%", "15%"]), str(shared.out))
    after = stamps(done)
    assert {name: after[name] for name in before} == before
    assert any("selected@15pct/" in name for name in {*after} - {*before})
    new = [e for e in events(done)[count:] if e["kind"] == "cost" and e["stage"] == "train"]
    assert all("@15pct" in e["name"] for e in new)


def test_two_spellings_of_one_budget_are_refused(world: World) -> None:
    with pytest.raises(UsageError, match="stands twice"):
        run_experiment(grid(world, budgets=["30%", "30.0%"]), str(world.out))
    assert not (world.out / "train").exists()


def events(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.root / "events.jsonl").read_text().splitlines()]


def made(run: Run, arm: str, seed: int = 0) -> dict[str, Any]:
    return run.store.require(f"train/{arm}/seed-{seed}/manifest.json")


def stamps(run: Run) -> dict[str, int]:
    """Every model and selection file with its time."""
    found = [*run.root.glob("train/*/*/*"), *run.root.glob("selections/*/*"),
             *run.root.glob("judge/*/*"), *run.root.glob("signals/*/*")]  # fmt: skip
    return {str(path.relative_to(run.root)): path.stat().st_mtime_ns for path in found}


def test_the_ledger_tells_where_the_time_went(shared: World) -> None:
    out = shared.folder / "timed"
    begun = time.monotonic()
    run = run_experiment(grid(shared, seeds=1), str(out))
    wall = time.monotonic() - begun
    told = [e for e in events(run) if e["kind"] == "cost"]
    assert sum(e["seconds"] for e in told) == pytest.approx(wall, rel=0.05)
    assert {"read", "score", "select", "draw", "load", "train", "judge", "report"} <= {
        e["stage"] for e in told
    }
    run_experiment(grid(shared, seeds=1), str(out))
    again = [e for e in events(run) if e["kind"] == "cost"][len(told) :]
    assert not {e["stage"] for e in again} & {"train", "judge", "tune"}
