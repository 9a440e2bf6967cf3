"""Two processes, by DDP and by FSDP2, learn what one learns."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pilotfish.models import load
from pilotfish.train import train
from tests.tiny.models import tiny_gpt2
from tests.train.courses import COURSES, ROWS, STEPS, course, settings
from tests.train.words import backwards

ROOT = Path(__file__).parents[2]


def torchrun(*words: object, timeout: float = 180) -> str:
    """Two processes on this machine; what they printed."""
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         *map(str, words)],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        cwd=ROOT, capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def models(folder: Path) -> tuple[str, str]:
    return (
        str(tiny_gpt2(folder / "student", hidden=16)),
        str(tiny_gpt2(folder / "teacher", seed=1, hidden=16)),
    )


@pytest.fixture(scope="module")
def two(folder: Path, models: tuple[str, str]) -> dict[str, Any]:
    torchrun("-m", "tests.train.courses", *models, folder)
    found: dict[str, Any] = torch.load(folder / "told.pt")
    return found


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
@pytest.mark.parametrize("name", COURSES)
def test_two_processes_learn_what_one_learns(
    name: str, how: str, models: tuple[str, str], two: dict[str, Any]
) -> None:
    one, both = course(name, *models, how="auto"), two["told"][f"{how} {name}"]
    assert one.keys() == both.keys()
    exact = "64" in name
    within = 1e-12 if exact else 1e-6
    for key, value in one.items():
        if key.startswith("weight") and not exact:
            continue  # Adam divides rounding by rounding where a gradient is 0, so at 1e-8 here
        torch.testing.assert_close(
            both[key], value, rtol=within, atol=within, msg=lambda text, key=key: f"{key}: {text}"
        )
    clipped = [key for key in one if "after" in key]
    assert any((one[key] != one[key.replace("after", "before")]).any() for key in clipped)


def test_the_head_is_gathered_once_however_often_it_is_called(two: dict[str, Any]) -> None:
    often, once = two["gathers"]
    assert often == once > 0


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_two_processes_go_on_where_they_stopped(
    how: str, two: dict[str, Any], folder: Path
) -> None:
    whole, again = folder / how / "whole", folder / how / "again"
    assert (whole / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
    assert (whole / "log.jsonl").read_text() == (again / "log.jsonl").read_text()
    assert (whole / "adapter").is_dir() == (how == "fsdp")


def test_fsdp2_leaves_a_model_folder_like_any_other(
    models: tuple[str, str], two: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    train(backwards(ROWS), models[0], settings(), seed=1, folder=tmp_path, steps=STEPS)
    assert {p.name for p in (folder / "full").iterdir()} == {p.name for p in tmp_path.iterdir()}
    shared = load(str(folder / "full"), device="cpu", precision="fp32")
    base = load(models[0], device="cpu", precision="fp32")
    moved = [
        (one - other).abs().max()
        for one, other in zip(shared.model.parameters(), base.model.parameters(), strict=True)
    ]
    assert min(moved) > 0 and max(moved) < 0.1
