"""Two processes, by DDP and by FSDP2, learn what one learns."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pilotfish.models import load
from pilotfish.training import loop
from pilotfish.training.trainer import train
from tests.figures import Reached
from tests.tiny.models import tiny_gpt2
from tests.training.courses import COURSES, ROWS, STEPS, course, settings
from tests.training.words import backwards

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
    torchrun("-m", "tests.training.courses", *models, folder)
    found: dict[str, Any] = torch.load(folder / "results.pt")
    return found


def farthest(one: dict[str, Any], other: dict[str, Any], what: tuple[str, ...]) -> float:
    """The largest difference of any loss or gradient, by the larger of its size and 1."""
    results = [key for key in one if key.startswith(what)]
    assert results
    apart = [(one[key] - other[key]).abs() / one[key].abs().clamp(min=1) for key in results]
    return max(float(each.max()) for each in apart)


@pytest.mark.torture
@pytest.mark.parametrize("how", ["ddp", "fsdp"])
@pytest.mark.parametrize("name", COURSES)
def test_two_processes_learn_what_one_learns(
    name: str, how: str, models: tuple[str, str], two: dict[str, Any], reached: Reached
) -> None:
    one, both = course(name, *models, how="auto"), two["results"][f"{how} {name}"]
    assert one.keys() == both.keys()
    exact = "64" in name
    within = 1e-12 if exact else 1e-6
    results = farthest(one, both, ("loss", "gradient"))
    reached("R14", f"{name}, {how} on two gloo processes (wrapper asserted), six steps: losses and "
            f"gradients apart by {results:.0e} at most ({within:.0e} promised)")  # fmt: skip
    for key, value in one.items():
        if key.startswith("weight") and not exact:
            continue  # Adam divides rounding by rounding where a gradient is 0, so at 1e-8 here
        torch.testing.assert_close(
            both[key], value, rtol=within, atol=within, msg=lambda text, key=key: f"{key}: {text}"
        )
    clipped = [key for key in one if "after" in key]
    assert any((one[key] != one[key.replace("after", "before")]).any() for key in clipped)


CUTS = ((8, 1), (4, 2), (2, 4), (1, 8))  # rows at once, times a step


@pytest.mark.torture
@pytest.mark.parametrize("name", COURSES)
def test_how_a_step_is_cut_changes_no_loss_and_no_gradient(
    name: str, models: tuple[str, str], reached: Reached
) -> None:
    results = [
        course(name, *models, how="auto", per_device_train_batch_size=rows,
               gradient_accumulation_steps=times)
        for rows, times in CUTS
    ]  # fmt: skip
    within = 1e-12 if "64" in name else 1e-6
    apart = max(farthest(results[0], other, ("loss", "gradient")) for other in results[1:])
    assert apart <= within
    reached("R14", f"{name}, eight rows a step cut in {len(CUTS)} ways: losses and gradients apart "
            f"by {apart:.0e} at most ({within:.0e} promised)")  # fmt: skip


def _mean_of_means(real: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def accumulate(model: Any, parts: Any, mass: float, **how: Any) -> torch.Tensor:
        each = [real(model, [part], len(parts) * len(part.targets), **how) for part in parts]
        return torch.stack(each).sum()

    return accumulate


def test_a_mean_of_means_is_found_out(models: tuple[str, str]) -> None:
    """Negative control: divided by the tokens of each cut, not of the step, the cuts disagree."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "accumulate", _mean_of_means(loop.accumulate))
        results = [
            course("fp32", *models, how="auto", per_device_train_batch_size=rows,
                   gradient_accumulation_steps=times)
            for rows, times in (CUTS[0], CUTS[2])
        ]  # fmt: skip
    assert farthest(results[0], results[1], ("loss", "gradient")) > 1e-3


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
