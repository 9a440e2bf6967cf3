"""score, train and judge one at a time on a run: they keep to what the run was made with."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pilotfish.config import parse_method
from pilotfish.config.data import Source
from pilotfish.config.scoring import ScoreConfig
from pilotfish.errors import UsageError
from pilotfish.experiments.evaluate import evaluate_run
from pilotfish.experiments.train import train_arms
from pilotfish.scoring.score import score
from pilotfish.selection.select import SelectConfig, select
from pilotfish.store import Run
from tests.experiments.worlds import World, manifest, report, rows, write
from tests.tiny.models import tiny_llama

METHOD = parse_method("perplexity(direction=low)")


def scored(
    world: World, source: Source | None = None, *, force: bool = False, **settings: Any
) -> Run:
    config = ScoreConfig(world.weak, [METHOD], **settings)
    return score(str(world.out), source or Source(world.pool), config, force=force)


def test_a_changed_seed_length_or_trusted_set_is_refused_by_name(world: World) -> None:
    scored(world, trusted=world.trusted)
    tuned = (world.out / "weak/model.safetensors").read_bytes()
    with pytest.raises(UsageError, match="max_length"):
        scored(world, trusted=world.trusted, max_length=30)
    with pytest.raises(UsageError, match="seed"):
        scored(world, trusted=world.trusted, seed=1)
    with pytest.raises(UsageError, match="weak model"):
        scored(world)
    other = write(world.folder / "other.jsonl", rows(8, start=300))
    with pytest.raises(UsageError, match="tuned with another trusted"):
        scored(world, trusted=other)
    assert (world.out / "weak/model.safetensors").read_bytes() == tuned


def test_a_misspelt_method_or_column_stops_before_the_weak_model_is_tuned(world: World) -> None:
    with pytest.raises(UsageError, match="--as gives 2 names"):
        scored(world, trusted=world.trusted, names=["a", "b"])
    with pytest.raises(UsageError, match="did you mean 'perplexity'"):
        score(
            str(world.out), Source(world.pool), ScoreConfig(world.weak, [parse_method("perplexit")])
        )
    assert not world.out.exists()


def test_scores_of_another_pool_do_not_stay_beside_the_new_ones(world: World) -> None:
    scored(world, names=["old"])
    other = write(world.folder / "pool2.jsonl", rows(24, start=50))
    run = scored(world, Source(other), names=["new"], force=True)
    table = pq.read_table(run.root / "scores.parquet")
    assert "new" in table.column_names and "old" not in table.column_names
    assert list(run.section("scores")) == ["new"]


def test_token_counts_follow_the_only_score_when_it_is_replaced(world: World) -> None:
    scored(world)
    before = pq.read_table(world.out / "scores.parquet").column("n_response_tokens").to_pylist()
    scored(world, max_length=14, force=True)
    table = pq.read_table(world.out / "scores.parquet")
    assert table.column("n_response_tokens").to_pylist() != before
    assert any(table.column("truncated").to_pylist())


def test_scores_go_to_the_run_that_holds_their_rows(world: World) -> None:
    run = scored(world)
    with pytest.raises(UsageError, match="kept in the run of their rows"):
        score(str(world.folder / "else"), Source(str(run.root)), ScoreConfig(world.weak, [METHOD]))
    with pytest.raises(UsageError, match="come too late"):
        scored(world, Source(str(run.root), limit=3), names=["few"])
    # the data itself need not be there any more
    Path(world.pool).unlink()
    assert "again" in scored(world, Source(str(run.root)), names=["again"]).section("scores")


def test_run_json_names_the_weak_model_as_it_was_given(world: World) -> None:
    facts = scored(world, trusted=world.trusted).section("weak")
    assert facts["name"] == world.weak and facts["trusted"] == world.trusted


def test_distilling_on_a_scored_run_does_not_tune_its_tuned_model_once_more(world: World) -> None:
    run = scored(world, trusted=world.trusted)
    select(run.root, SelectConfig(METHOD, "6rows"))
    before = (run.root / "weak/manifest.json").read_bytes()
    train_arms(
        str(run.root), world.strong, arms=["selected", "trusted_selected"], loss="kd",
        overrides=["train.max_steps=1"],
    )  # fmt: skip
    assert (run.root / "weak/manifest.json").read_bytes() == before
    digests = {
        manifest(run, arm)["made_from"]["teacher"] for arm in ("selected", "trusted_selected")
    }
    assert digests == {run.section("weak")["digest"]}


def test_a_later_arm_is_trained_like_those_of_the_run(world: World) -> None:
    run = world.run(arms=["selected"], seed=3)
    stamp = (run.root / "train/selected/seed-0/model.safetensors").stat().st_mtime_ns
    train_arms(str(run.root), world.strong, arms=["selected", "full"])
    assert (run.root / "train/selected/seed-0/model.safetensors").stat().st_mtime_ns == stamp
    one, other = (manifest(run, arm)["made_from"] for arm in ("selected", "full"))
    for key in ("strong", "steps", "config", "stream"):
        assert one[key] == other[key], key


def test_rows_held_out_of_the_trusted_ones_are_not_trained_on_later(world: World) -> None:
    write(Path(world.trusted), rows(30, start=100))
    run = world.run(test=None, trusted=world.trusted, arms=["trusted"])
    assert manifest(run, "trusted")["trusted_rows"] == 20
    train_arms(str(run.root), world.strong, arms=["trusted_full"], trusted=world.trusted)
    assert manifest(run, "trusted_full")["trusted_rows"] == 20


@pytest.mark.parametrize("arm", ["base", "weak"])
def test_an_untrained_arm_cannot_be_trained(world: World, arm: str) -> None:
    run = scored(world)
    with pytest.raises(UsageError, match="judged as it is"):
        train_arms(str(run.root), world.strong, arms=[arm])


def test_settings_that_training_ignores_are_refused(world: World) -> None:
    run = scored(world)
    with pytest.raises(UsageError, match="only settings of train"):
        train_arms(str(run.root), world.strong, arms=["selected"], overrides=["budget=5%"])


def test_another_metric_judges_the_untrained_arms_again_too(world: World) -> None:
    run = world.run(trusted=world.trusted, arms=["base", "weak", "selected"])
    told = evaluate_run(str(run.root), metric="exact_match")
    assert {arm["name"]: arm["metric"] for arm in told} == dict.fromkeys(
        ("base", "weak", "selected"), "exact_match"
    )
    assert run.section("test")["metric"] == "exact_match"
    with pytest.raises(UsageError, match="no model of random"):
        evaluate_run(str(run.root), arms=["random"])


def test_a_model_trained_anew_loses_the_judgement_of_the_old_one(world: World) -> None:
    run = world.run(arms=["selected"])
    train_arms(str(run.root), world.strong, arms=["selected"], overrides=["train.max_steps=2"])
    assert not (run.root / "judge/selected/seed-0.json").exists()


def test_judging_a_stale_model_does_not_make_it_fresh(world: World) -> None:
    run = world.run(arms=["selected"])
    select(run.root, SelectConfig(METHOD, "5rows"), force=True)
    stale = ["train/selected/seed-0", "judge/selected/seed-0"]
    assert run.section("selections")["selected"]["stale"] == sorted(stale)
    evaluate_run(str(run.root))
    assert run.section("selections")["selected"]["stale"] == sorted(stale)
    train_arms(str(run.root), world.strong, arms=["selected"])
    evaluate_run(str(run.root))
    assert run.section("selections")["selected"]["stale"] == []


def test_pool_rows_in_a_test_that_came_later_are_counted(world: World) -> None:
    run = scored(world)
    select(run.root, SelectConfig(METHOD, "6rows"))
    train_arms(str(run.root), world.strong, arms=["selected"], overrides=["train.max_steps=1"])
    late = write(world.folder / "late.jsonl", [*rows(2), *rows(2, start=200)])
    evaluate_run(str(run.root), test=late, metric="loss")
    assert any(
        "2 pool rows also stand in the test data" in text for text in report(run)["warnings"]
    )


def test_a_weak_model_saved_elsewhere_with_the_same_bytes_is_the_same(world: World) -> None:
    run = scored(world, trusted=world.trusted)
    stamp = (run.root / "weak/model.safetensors").stat().st_mtime_ns
    world.weak = str(tiny_llama(world.folder / "twin", seed=1, hidden=16, layers=1))
    scored(world, trusted=world.trusted)
    assert (run.root / "weak/model.safetensors").stat().st_mtime_ns == stamp
