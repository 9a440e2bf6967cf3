"""Two processes learn what one learns."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pilotfish.config import TrainConfig
from pilotfish.train import train
from tests.train.words import backwards

WORKER = """
import sys, warnings
import torch
torch.set_num_threads(1)
from pathlib import Path
from pilotfish.config import TrainConfig
from pilotfish.train import train
from tests.train.words import backwards
config = TrainConfig.model_validate_json(sys.argv[2])
train(backwards(20), sys.argv[1], config, seed=0, folder=Path(sys.argv[3]), steps=4)
torch.distributed.destroy_process_group()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize(("size", "accumulation"), [(4, 1), (2, 2)])
def test_two_ranks_learn_what_one_learns(
    size: int, accumulation: int, llama: str, tmp_path: Path
) -> None:
    alone = TrainConfig(per_device_train_batch_size=8)
    train(backwards(20), llama, alone, seed=0, folder=tmp_path / "one", steps=4)
    shared = TrainConfig(per_device_train_batch_size=size, gradient_accumulation_steps=accumulation)
    port = str(free_port())
    ranks = []
    for rank in ("0", "1"):
        env = {
            **os.environ,
            "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
            "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        words = [llama, shared.model_dump_json(), str(tmp_path / "two")]
        ranks.append(
            subprocess.Popen(
                [sys.executable, "-c", WORKER, *words],
                env=env,
                cwd=Path(__file__).parents[2],
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    for rank_process in ranks:
        _, errors = rank_process.communicate(timeout=120)
        assert rank_process.returncode == 0, errors
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert [line["tokens"] for line in logs[0]] == [line["tokens"] for line in logs[1]]
    for one, two in zip(*logs, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-4)
        assert two["lr"] == one["lr"]
