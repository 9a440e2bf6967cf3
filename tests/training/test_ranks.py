"""Two processes learn what one learns."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pilotfish.config import TrainConfig
from pilotfish.training.classify import train_classifier
from pilotfish.training.data.row_weights import RowInfo
from pilotfish.training.trainer import train
from tests.tiny.encoders import tiny_encoder
from tests.training.test_classify import CLASSES, soft, texts
from tests.training.words import backwards

WORKER = """
import os, sys, warnings
import torch
torch.set_num_threads(1)
from pathlib import Path
from pilotfish.config import TrainConfig
from pilotfish.training.data.row_weights import RowInfo
from pilotfish.training.trainer import train
from tests.training.words import backwards
config = TrainConfig.model_validate_json(sys.argv[2])
held = {"weak": backwards(6, seed=5)}
train(
    backwards(20), sys.argv[1], config, seed=0, folder=Path(sys.argv[3]), validation=held,
    row_info=RowInfo(sources=["pool"] * 16 + ["gold"] * 4),
)
torch.distributed.destroy_process_group()
os._exit(0)  # as the command line ends: see cli.main._leave
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


CLASSIFIER = """
import os, sys
import torch
torch.set_num_threads(1)
from pathlib import Path
from pilotfish.config import TrainConfig
from pilotfish.training.classify import train_classifier
from tests.training.test_classify import CLASSES, soft, texts
config = TrainConfig.model_validate_json(sys.argv[2])
train_classifier(
    texts(16), sys.argv[1], config, classes=CLASSES, targets=soft(16), seed=0,
    folder=Path(sys.argv[3]),
)
torch.distributed.destroy_process_group()
os._exit(0)  # as the command line ends: see cli.main._leave
"""


def two_ranks(model: str, config: TrainConfig, folder: Path, *, worker: str = WORKER) -> None:
    """Train by two processes."""
    port = str(free_port())
    ranks = []
    for rank in ("0", "1"):
        env = {
            **os.environ,
            "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
            "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        words = [model, config.model_dump_json(), str(folder)]
        ranks.append(
            subprocess.Popen(
                [sys.executable, "-c", worker, *words],
                env=env,
                cwd=Path(__file__).parents[2],
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    for rank_process in ranks:
        _, errors = rank_process.communicate(timeout=120)
        assert rank_process.returncode == 0, errors


@pytest.mark.slow
@pytest.mark.parametrize(("size", "accumulation"), [(4, 1), (2, 2)])
def test_two_ranks_learn_what_one_learns(
    size: int, accumulation: int, llama: str, tmp_path: Path
) -> None:
    alone = TrainConfig(per_device_train_batch_size=8, max_steps=4)
    train(backwards(20), llama, alone, seed=0, folder=tmp_path / "one")
    shared = alone.changed(
        {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation}
    )
    two_ranks(llama, shared, tmp_path / "two")
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert [line["tokens"] for line in logs[0]] == [line["tokens"] for line in logs[1]]
    for one, two in zip(*logs, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-4)
        assert two["lr"] == one["lr"]


@pytest.mark.slow
def test_two_ranks_of_fsdp_keep_the_best_weights_that_one_process_keeps(
    llama: str, tmp_path: Path
) -> None:
    """With a share of gold and a warm-up; the best step is not the last one."""
    alone = TrainConfig(
        per_device_train_batch_size=8, max_steps=16, learning_rate=2e-2, gold_share=0.3,
        warmup_lm=2, stop="weak", stop_every=2, stop_patience=2, parallel="fsdp",
        lr_scheduler_type="constant",
    )  # fmt: skip
    facts = train(
        backwards(20), llama, alone, seed=0, folder=tmp_path / "one",
        row_info=RowInfo(sources=["pool"] * 16 + ["gold"] * 4),
        validation={"weak": backwards(6, seed=5)},
    )  # fmt: skip
    assert 0 < facts["kept_step"] < facts["steps"]
    two_ranks(llama, alone.changed({"per_device_train_batch_size": 4}), tmp_path / "two")
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert len(logs[0]) == len(logs[1]) == facts["steps"]
    for one, two in zip(*logs, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-3)
        seen = (one.get("validation"), two.get("validation"))
        assert seen[0] == seen[1] or seen[1] == pytest.approx(seen[0], abs=1e-3)
    saved = [load_file(tmp_path / name / "model.safetensors") for name in ("one", "two")]
    for name, weight in saved[0].items():
        assert saved[1][name] == pytest.approx(weight, abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ddp", "fsdp"])
@pytest.mark.parametrize("loss", ["soft_ce", "logconf"])
def test_two_ranks_teach_a_classifier(how: str, loss: str, tmp_path: Path) -> None:
    """soft_ce as one process does; logconf, which reads every step before it learns it, to its end
    with a window for each process."""
    model = str(tiny_encoder(tmp_path / "bert", "bert"))
    alone = TrainConfig(
        per_device_train_batch_size=8, max_steps=6, use_peft=False, loss=loss, parallel=how,
        learning_rate=1e-3,
    )  # fmt: skip
    train_classifier(
        texts(16), model, alone, classes=CLASSES, targets=soft(16), seed=0, folder=tmp_path / "one"
    )
    shared = alone.changed({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2})
    two_ranks(model, shared, tmp_path / "two", worker=CLASSIFIER)
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert len(logs[0]) == len(logs[1]) == 6
    for one, two in zip(*logs, strict=True):
        near = 1e-4 if loss == "soft_ce" or one["step"] == 1 else 0.5
        assert two["loss"] == pytest.approx(one["loss"], abs=near)
