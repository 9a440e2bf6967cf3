"""Training with a stored teacher: as online, captured once, and refused where it cannot serve."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from pilotfish.config import TrainConfig, make_weak_to_strong, parse_method
from pilotfish.config.data import Source
from pilotfish.config.scoring import ScoreConfig
from pilotfish.data.run_pool import pool_of
from pilotfish.errors import UsageError
from pilotfish.experiments import train as training
from pilotfish.experiments.train import train_arms
from pilotfish.models import load
from pilotfish.records import Example, Turn
from pilotfish.scoring.score import score
from pilotfish.selection.select import SelectConfig, select
from pilotfish.store import Run
from pilotfish.tokenization import encode_training
from pilotfish.training.teacher import cache as flow
from tests.experiments.worlds import World, manifest, report
from tests.tiny.models import byte_tokenizer, tiny_llama

METHOD = parse_method("perplexity(direction=low)")
CACHED = "train.teacher=cached"


def selected(world: World, out: Path) -> Run:
    run = score(str(out), Source(world.pool), ScoreConfig(world.weak, [METHOD]))
    select(run.root, SelectConfig(METHOD, "6rows"))
    return run


def teach(run: Run, world: World, *settings: str, **how: Any) -> dict[str, Any]:
    steps = ["train.max_steps=4", "train.use_peft=false", "train.learning_rate=1e-3"]
    how = {"arms": ["selected"], "loss": "kd", **how}
    [facts] = train_arms(str(run.root), world.strong, overrides=[*steps, *settings], **how)
    return facts


def captures(run: Run) -> list[dict[str, Any]]:
    lines = (run.root / "events.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line.get("stage") == "teacher"]


@pytest.mark.parametrize(
    ("settings", "near"),
    [(["train.teacher_top_k=300"], 1e-3), (["train.teacher_kind=dense"], 1e-3)],
)
def test_a_whole_stored_teacher_trains_as_the_online_one(
    world: World, settings: list[str], near: float
) -> None:
    run = selected(world, world.out)
    online = teach(run, world)
    before = load_file(run.root / "train/selected/seed-0/model.safetensors")
    cached = teach(run, world, CACHED, *settings)
    after = load_file(run.root / "train/selected/seed-0/model.safetensors")
    started = load_file(Path(world.strong) / "model.safetensors")
    assert cached["first_loss"] == pytest.approx(online["first_loss"], abs=near)
    assert cached["final_loss"] == pytest.approx(online["final_loss"], abs=near)
    for name, weight in before.items():
        moved = abs(weight - started[name]).mean()
        assert abs(after[name] - weight).mean() < 0.1 * moved
    assert cached["flops"] < online["flops"]
    [cost] = captures(run)
    assert cost["rows"] == 6 and cost["flops"] > 0 and cost["tokens"] > 0
    assert cached["made_from"]["taught"]["need"].endswith("supervised")
    assert "taught" not in online["made_from"]


def test_draws_train_too(world: World) -> None:
    run = selected(world, world.out)
    facts = teach(run, world, CACHED, "train.teacher_kind=sampled", "train.teacher_top_k=12")
    assert facts["stored_teacher"] == "sampled" and "captured_mass" not in facts


def test_what_is_stored_serves_other_losses_seeds_and_trainings(world: World) -> None:
    run = selected(world, world.out)
    teach(run, world, CACHED)
    parts = sorted(run.root.glob("signals/topk64*/*.parquet"))
    teach(run, world, CACHED, loss="mix(lm=0.5, kd=0.5)")
    train_arms(
        str(run.root), world.strong, arms=["selected"], loss="kd", seeds=2,
        overrides=["train.max_steps=1", CACHED],
    )  # fmt: skip
    assert len(captures(run)) == 1 and len(parts) == 1
    parts[0].unlink()
    teach(run, world, CACHED, "train.teacher_top_k=64", force=True)
    assert len(captures(run)) == 2 and parts[0].is_file()


def test_little_of_a_teacher_is_warned_of(world: World) -> None:
    run = selected(world, world.out)
    facts = teach(run, world, CACHED, "train.teacher_top_k=2")
    assert 0 < facts["captured_mass"] < 0.5
    assert any("holds" in text and "teacher_top_k" in text for text in run.manifest["warnings"])


def test_the_teacher_is_not_there_while_the_student_learns(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, seen = selected(world, world.out), []
    real = training.run_on_all_ranks

    def watched(work: Any, *args: Any, **more: Any) -> Any:
        seen.append((more["teacher"], len(more["teacher_outputs"])))
        return real(work, *args, **more)

    monkeypatch.setattr(training, "run_on_all_ranks", watched)
    teach(run, world, CACHED)
    assert seen == [(None, 6)]


def test_knobs_that_need_the_whole_teacher_are_refused_before_anything_is_read(
    world: World,
) -> None:
    run = selected(world, world.out)
    for loss in ("kd(temperature=2)", "product"):
        with pytest.raises(UsageError, match="stored teacher of kind topk") as refused:
            teach(run, world, CACHED, loss=loss)
        assert "train.teacher=online" in str(refused.value.hint)
    assert not captures(run) and not (run.root / "train").exists()
    with pytest.raises(UsageError, match="stored teacher"):
        world.run(out=world.folder / "other", train={"loss": "product", "teacher": "cached"})
    assert not (world.folder / "other/pool").exists()


def test_other_tokenizers_are_refused_either_way(world: World, tmp_path: Path) -> None:
    stranger = str(tiny_llama(tmp_path / "stranger", hidden=16, chat=True))
    run = selected(world, world.out)
    world.strong = stranger
    for settings in ([], [CACHED]):
        with pytest.raises(UsageError, match="needs one tokenizer"):
            teach(run, world, *settings)
    assert not captures(run)


def test_whole_distributions_beyond_the_limit_are_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = selected(world, world.out)
    monkeypatch.setattr(flow, "DENSE_MOST", 1000)
    with pytest.raises(UsageError, match="GiB; at most") as refused:
        teach(run, world, CACHED, "train.teacher_kind=dense")
    assert "topk" in str(refused.value.hint)
    assert not captures(run)


def test_trusted_rows_stand_apart_and_the_others_are_not_captured_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = selected(world, world.out)
    teacher = load(world.weak)
    rows = pool_of(run).take([0, 1, 2])
    trusted = [Example("trusted:t", "t", 0, turns=(Turn("user", "a"), Turn("assistant", "b")))]
    config = TrainConfig(teacher="cached")

    def taught(some: list[Example], **changes: Any) -> dict[str, Any]:
        how = config.changed(changes)
        return dict(flow.cached_teacher_outputs(run, some, teacher, how, strong=world.strong))

    alone = taught(rows)
    monkeypatch.setattr(flow, "SHARD_ROWS", 2)
    both = taught(rows[::-1] + trusted)  # cut otherwise: other shards, the same rows
    assert both.keys() > alone.keys() and len(both) == 4
    assert [event["rows"] for event in captures(run)] == [3, 3, 1]
    taught([*trusted, *rows])
    assert len(captures(run)) == 3
    assert all(both[name].digest == alone[name].digest for name in alone)
    taught(rows, max_length=12)
    assert len(captures(run)) == 4


def test_rows_cut_otherwise_are_another_shelf() -> None:
    """Also where no setting tells: a start token that only a post-processor adds."""
    row = Example("a", "s", 0, turns=(Turn("user", "p"), Turn("assistant", "xy")))
    shelves = [
        flow.Shelf.of([row], encode_training([row], byte_tokenizer(bos=bos), 64), 8).fingerprint
        for bos in (False, True, True)
    ]
    assert shelves[0] != shelves[1] == shelves[2]


def test_shards_hold_a_bounded_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "SHARD_BYTES", 100)
    rows = [
        Example(str(i), "s", i, turns=(Turn("user", "p"), Turn("assistant", "x" * size)))
        for i, size in enumerate([1, 2, 3, 50, 4, 5, 6, 7])
    ]
    encoded = encode_training(rows, byte_tokenizer(), 64)
    shelf = flow.Shelf.of(rows, encoded, 8)
    sizes = [int(shelf.learnt[slice(*shelf.bounds(i))].sum()) * 8 for i in range(shelf.shards)]
    rows_in = [len(shelf.shard(i)) for i in range(shelf.shards)]
    assert sum(rows_in) == 8 and min(rows_in) >= 1 and len(sizes) > 3
    assert all(size <= 100 or count == 1 for size, count in zip(sizes, rows_in, strict=True))


def test_a_row_too_long_for_the_teacher_is_refused_before_it_is_read(
    world: World, tmp_path: Path
) -> None:
    run = selected(world, world.out)
    blind = load(str(tiny_llama(tmp_path / "blind", hidden=16, window=8)))
    rows = pool_of(run).take([0])
    with pytest.raises(UsageError, match="reads only 8"):
        flow.cached_teacher_outputs(
            run, rows, blind, TrainConfig(teacher="cached"), strong=world.strong
        )
    assert not captures(run)


def test_a_stored_teacher_names_what_it_was_made_from(world: World) -> None:
    run = selected(world, world.out)
    teach(run, world, CACHED, "train.teacher_top_k=5")
    assert manifest(run, "selected")["made_from"]["taught"]["need"].startswith("topk5.")


def test_a_whole_run_stores_its_teacher_too(world: World) -> None:
    settings = {"max_steps": 2, "use_peft": False, "learning_rate": 1e-3, "loss": "kd"}
    run = world.run(
        trusted=world.trusted, arms=["selected", "trusted_selected"],
        train={**settings, "teacher": "cached"},
    )  # fmt: skip
    assert manifest(run, "trusted_selected")["stored_teacher"] == "topk"
    # the selected rows once, for both arms, and the trusted ones as well
    assert [event["rows"] for event in captures(run)] == [6, 10]
    facts = {stage["stage"]: stage for stage in report(run)["ledger"]["stages"]}
    assert facts["teacher"]["flops"] > 0


def test_label_experiments_refuse_what_they_would_not_store() -> None:
    settings = {"data": "d", "weak": "w", "strong": "s", "train": {"teacher": "cached"}}
    with pytest.raises(UsageError, match="teacher must be online"):
        make_weak_to_strong({"experiment": "weak_to_strong", **settings})


@pytest.mark.slow
def test_torchrun_hands_the_stored_teacher_to_every_process(world: World) -> None:
    run = selected(world, world.out)
    words = ["train", str(world.out), "--strong", world.strong, "--json", "--quiet", "--loss", "kd"]
    changes = ["train.per_device_train_batch_size=2", "train.max_steps=4", CACHED]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "pilotfish", *words, *(word for change in changes for word in ("--set", change))],
        capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    two = manifest(run, "selected")
    one = train_arms(
        str(run.root), world.strong, arms=["selected"], loss="kd",
        overrides=["train.per_device_train_batch_size=4", "train.max_steps=4", CACHED],
    )[0]  # fmt: skip
    assert two["stored_teacher"] == one["stored_teacher"] == "topk"
    assert two["final_loss"] == pytest.approx(one["final_loss"], rel=1e-5)
    assert len(captures(run)) == 1
