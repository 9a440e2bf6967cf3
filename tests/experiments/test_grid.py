"""Arms x budgets x methods in one run: nested rows, one forward pass, nothing done twice."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilotfish.arms.arms import grid_for
from pilotfish.config import Recipe, make_recipe
from pilotfish.errors import UsageError
from pilotfish.experiments.run import run_experiment
from pilotfish.selection.files import kept_of
from pilotfish.store import Run
from tests.experiments.worlds import World
from tests.scoring.ends import digests, untimed


def recipe(**more: Any) -> Recipe:
    return make_recipe({"data": "rows.jsonl", "weak": "w", "strong": "s", **more})


def names(**more: Any) -> list[str]:
    return [arm.name for arm in grid_for(recipe(**more))]


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
        budgets=["10%", "5%"], arms=["base", "selected", "full"], matched_on=["steps", "epochs"]
    )
    assert found == ["base", "selected", "full", "selected@5pct", "full@epochs",
                     "selected@5pct@epochs"]  # fmt: skip


def test_equal_tokens_and_compute_bring_their_controls() -> None:
    found = names(arms=["selected"], matched_on=["tokens", "compute"])
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
    "matched_on": ["steps", "epochs", "tokens", "compute"],
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
    more = chosen["random_compute@10pct-0"]["more"]
    assert longer["steps"] == round(steps * (1 + more))
    assert longer["rows"] == round(rows["selected@10pct"] * (1 + more)) > rows["selected@10pct"]


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


def test_another_method_seed_and_arm_only_add(shared: World) -> None:
    out = str(shared.folder / "grown")
    small = {
        "methods": {},
        "matched_on": ["steps"],
        "budget": "10%",
        "budgets": None,
        "arms": ["random", "selected"],
    }
    run = run_experiment(grid(shared, seeds=1, **small), out)
    before, count = stamps(run), len(events(run))
    more = {"methods": {"long": "longest", "lost": "ifd"}, "seeds": 2, "gates": {"safe": {}},
            "arms": ["base", "random", "selected"]}  # fmt: skip
    run_experiment(grid(shared, **{**small, **more}), out)
    after = stamps(run)
    assert {name: after[name] for name in before} == before
    new = [e for e in events(run)[count:] if e["kind"] == "cost"]
    assert {e["name"] for e in new if e["stage"] == "train"} == {
        "random seed 1", "selected seed 1", "long seed 0", "long seed 1", "lost seed 0",
        "lost seed 1",
    }  # fmt: skip
    # what the first method had read of the pool is not read again
    assert len(list(run.root.glob("signals/*/*.parquet"))) > len(
        [name for name in before if name.startswith("signals/") and name.endswith(".parquet")]
    )
    assert sum(e["rows"] for e in new if e["stage"] == "score" and e.get("tokens")) == 24


def test_random_rows_for_the_same_compute_are_learnt_more_often_where_there_are_no_more(
    shared: World,
) -> None:
    out = str(shared.folder / "whole")
    settings = {"budget": "100%", "budgets": None, "methods": {}, "arms": ["selected"], "seeds": 1,
                "matched_on": ["compute"],
                "train": {"max_steps": 4, "use_peft": False, "per_device_train_batch_size": 2},
    }  # fmt: skip
    run = run_experiment(grid(shared, **settings), out)
    facts = run.section("selections")["random_compute-0"]
    longer = made(run, "random_compute")
    assert longer["rows"] == 24 and longer["steps"] == round(4 * (1 + facts["more"])) > 4
    # another length of training buys another number of rows: refused, and nothing is withdrawn
    longer_yet = {**settings, "train": {**settings["train"], "max_steps": 9}}
    before = stamps(run)
    with pytest.raises(UsageError, match="another selection called 'random_compute-0'"):
        run_experiment(grid(shared, **longer_yet), out)
    assert stamps(run) == before and run.section("config")["train"]["max_steps"] == 4


def test_a_tuned_weak_model_picks_anew_at_every_budget(world: World) -> None:
    run = world.run(
        trusted=world.trusted, budget="50%", budgets=["50%", "25%"], seeds=2,
        matched_on=["compute"], arms=["selected", "longest"],
    )  # fmt: skip
    chosen = run.section("selections")
    assert made(run, "selected@25pct", 1)["selection"] == "selected@25pct-1"
    assert made(run, "longest@25pct", 1)["selection"] == "longest@25pct-1"
    assert chosen["random@25pct-1"]["of"] == "selected@25pct-1"
    assert set(kept_of(run, "selected@25pct-1")) < set(kept_of(run, "selected-1"))
    # tuning is part of what arriving at the selection took, and all seeds are charged alike
    plain = world.run(out=world.folder / "plain", matched_on=["compute"], arms=["selected"])
    untuned = plain.section("selections")["random_compute-0"]["more"]
    assert chosen["random_compute-0"]["more"] == chosen["random_compute@25pct-1"]["more"] > untuned


@pytest.mark.slow
def test_a_grid_killed_anywhere_ends_as_one_that_was_not(shared: World, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    settings = {**shared.settings(), **GRID, "seeds": 1, "methods": {}, "matched_on": ["steps"]}
    recipe.write_text(yaml.safe_dump(settings))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert compared(recipe, whole).wait(timeout=300) == 0
    for count in (3, 9):  # things done that the next one is killed after
        process = compared(recipe, killed)
        wait_for(killed / "events.jsonl", count, process)
        process.kill()
        process.wait()
    assert compared(recipe, killed).wait(timeout=300) == 0
    assert digests(killed) == digests(whole)
    assert untimed(killed) == untimed(whole)
    trained = [e["name"] for e in events(Run(killed)) if e.get("stage") == "train"]
    assert len(trained) == len(set(trained)) == 5


def compared(recipe: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "pilotfish", "compare", str(recipe), "--out", str(out), "--json"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def wait_for(log: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while not log.exists() or log.read_bytes().count(b"\n") < count:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


def test_two_spellings_of_one_budget_are_refused(world: World) -> None:
    with pytest.raises(UsageError, match="is given twice"):
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


@pytest.mark.slow
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
    assert {e["stage"] for e in again} == {"read", "plan", "draw", "load", "report", "resume"}
