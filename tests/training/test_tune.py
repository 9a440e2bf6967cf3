"""Tuning the weak model, and picking a learning rate, on trusted rows."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pilotfish.config import TrainConfig
from pilotfish.errors import DataError, UsageError
from pilotfish.losses import LM
from pilotfish.models import load
from pilotfish.training.data.collate import collate
from pilotfish.training.data.rows import encode_rows, split_fifth
from pilotfish.training.lm_module import LMWithLoss
from pilotfish.training.setup import prepare
from pilotfish.training.tune import pick_learning_rate, tune
from pilotfish.training.validation import held_out_loss
from tests.training.conftest import weights
from tests.training.words import backwards, pair

CONFIG = TrainConfig(per_device_train_batch_size=8, max_length=64)


def test_tuning_keeps_the_epoch_that_does_best_on_held_out_rows(llama: str, tmp_path: Path) -> None:
    facts = tune(backwards(40), llama, seed=0, folder=tmp_path, config=CONFIG)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    rates = facts["learning_rates_tried"]
    assert rates == pytest.approx([1e-3 / 16, 1e-3 / 4, 1e-3])
    kept = [line["held_out_loss"] for line in log if line["lr"] == facts["learning_rate"]]
    assert facts["held_out_loss"] == kept[facts["kept_epoch"]]
    assert facts["held_out_loss"] == min(line["held_out_loss"] for line in log)
    assert {line["held_out_loss"] for line in log if line["epoch"] == 0} == {kept[0]}
    assert facts["held_out_loss"] < facts["held_out_loss_before"] == kept[0]
    assert (facts["learned_rows"], facts["held_out_rows"], facts["rows"]) == (32, 8, 40)
    # What was saved is that epoch's model.
    student = prepare(str(tmp_path), CONFIG)
    rows = encode_rows(backwards(40), student.loaded, 64)
    held = split_fifth(rows, seed=0)[1]
    assert held_out_loss(student, held) == pytest.approx(facts["held_out_loss"], rel=1e-5)
    json.dumps(facts, allow_nan=False)


def test_tuning_that_only_harms_keeps_the_model_as_it_came(llama: str, tmp_path: Path) -> None:
    wild = CONFIG.model_copy(update={"learning_rate": 5.0, "max_grad_norm": 1e9})
    facts = tune(backwards(10), llama, seed=0, folder=tmp_path, config=wild)
    assert facts["kept_epoch"] == 0
    assert facts["epochs"] == 3  # three epochs without progress are enough
    base, kept = (load(name, device="cpu") for name in (llama, str(tmp_path)))
    pairs = zip(base.model.parameters(), kept.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("use_peft", [False, True])
def test_tuning_again_gives_the_same_bytes(use_peft: bool, llama: str, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"use_peft": use_peft, "learning_rate": 1e-3})
    for name, rows in (("a", backwards(12)), ("b", backwards(12)[::-1])):
        tune(rows, llama, seed=2, folder=tmp_path / name, config=config)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


def test_the_rates_of_a_list_are_tried_and_the_best_is_kept(llama: str, tmp_path: Path) -> None:
    several = CONFIG.model_copy(update={"learning_rate": [2e-3, 1e-7]})
    facts = tune(backwards(20), llama, seed=0, folder=tmp_path / "a", config=several)
    assert facts["learning_rates_tried"] == [1e-7, 2e-3]
    assert facts["learning_rate"] == 2e-3
    # A rate tried after another one starts from the same weights and draws the same numbers.
    alone = CONFIG.model_copy(update={"learning_rate": 2e-3})
    tune(backwards(20), llama, seed=0, folder=tmp_path / "b", config=alone)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


def test_one_row_is_too_few_to_tune_on(llama: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 2"):
        tune(backwards(1), llama, seed=0, folder=tmp_path, config=CONFIG)


@pytest.mark.parametrize(("n", "held"), [(2, 1), (5, 1), (9, 1), (10, 2), (100, 20)])
def test_a_fifth_is_held_out_whatever_the_order(n: int, held: int, llama: str) -> None:
    student = load(llama, device="cpu")
    rows = encode_rows(backwards(n), student, 64)
    turned = encode_rows(backwards(n)[::-1], student, 64)
    learned, judged = split_fifth(rows, seed=1)
    assert (len(learned), len(judged)) == (n - held, held)
    assert set(learned.names) | set(judged.names) == set(rows.names)
    contents = [name.split("\0")[1] for name in judged.names]
    again = split_fifth(turned, seed=1)
    assert contents == [name.split("\0")[1] for name in again[1].names]
    # Rows of equal content differ by id, so that the file order decides nothing.
    assert learned.names == again[0].names
    assert judged.names == split_fifth(turned, seed=1)[1].names


def test_held_out_loss_is_a_mean_over_tokens_not_rows(llama: str) -> None:
    student = prepare(llama, CONFIG)
    rows = encode_rows([pair("a", "b"), pair("a", "b" * 30, row=1)], student.loaded, 64)
    learner = LMWithLoss(student.model, LM())
    with torch.no_grad():
        sums = [float(learner(collate([row]))) for row in rows.encoded]
    expected = sum(sums) / sum(rows.tokens)
    assert held_out_loss(student, rows) == pytest.approx(expected, rel=1e-5)
    assert student.model.training


def test_the_best_learning_rate_is_found(llama: str) -> None:
    rows = backwards(40)
    rates = [1e-7, 3e-3, 1e-6]
    args: tuple[Any, ...] = (rows[:32], llama, CONFIG)
    assert pick_learning_rate(*args, rates, rows[32:], seed=0, steps=12) == 3e-3
    assert pick_learning_rate(*args, rates[::-1], rows[32:], seed=0, steps=12) == 3e-3


def test_no_learning_rate_to_try_is_refused(llama: str) -> None:
    with pytest.raises(UsageError, match="no learning rate"):
        pick_learning_rate(backwards(4), llama, CONFIG, [], backwards(4), seed=0, steps=1)


def test_rates_that_all_diverge_are_said(llama: str, tmp_path: Path) -> None:
    broken = load(llama, device="cpu")
    broken.model.lm_head.weight.fill_(torch.nan)
    broken.model.save_pretrained(tmp_path)
    broken.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="diverged at every"):
        pick_learning_rate(
            backwards(4), str(tmp_path), CONFIG, [1e-3], backwards(4), seed=0, steps=1
        )
    with pytest.raises(UsageError, match="a loss of nan"):
        tune(backwards(4), str(tmp_path), seed=0, folder=tmp_path / "out", config=CONFIG)
