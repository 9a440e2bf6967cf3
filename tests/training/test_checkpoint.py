"""A killed training resumes bit for bit; a damaged checkpoint is never resumed from."""

import json
import os
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pilotfish.config import TrainConfig
from pilotfish.errors import DamagedRun
from pilotfish.store import Store, fs_ops
from pilotfish.training import loop
from pilotfish.training.checkpoint import Checkpoints
from pilotfish.training.trainer import train
from tests.training.words import backwards

STEPS = 9
FULL = TrainConfig(per_device_train_batch_size=2, gradient_accumulation_steps=2, learning_rate=1e-3)
LORA = FULL.model_copy(update={"use_peft": True, "lora_dropout": 0.1, "lora_r": 4})
ARM = "train/selected/seed-0"


def where(run: Path, **changes: Any) -> Checkpoints:
    return replace(Checkpoints(Store(run), ARM, "rows and settings", steps=2), **changes)


def trained(
    model: str, config: TrainConfig, folder: Path, checkpoints: Checkpoints | None
) -> dict[str, Any]:
    torch.manual_seed(random.randrange(10**6))  # whatever the process has drawn before
    return train(
        backwards(20), model, config, seed=3, folder=folder, steps=STEPS, checkpoints=checkpoints
    )


def folder_bytes(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def killed(work: Callable[[], Any]) -> bool:
    """Do `work` in a copy of this process; whether it was killed on the way."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def kill_at(owner: Any, name: str, call: int) -> None:
    """Let call number `call` of a function kill the process before it does anything."""
    real, calls = getattr(owner, name), [0]

    def counting(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    setattr(owner, name, counting)


@pytest.fixture(scope="module")
def whole(gpt2: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """Return the files of trainings that were not killed, and that save no checkpoint."""
    found = {}
    for name, config in (("full", FULL), ("lora", LORA)):
        folder = tmp_path_factory.mktemp("whole") / name
        facts = trained(gpt2, config, folder, None)
        assert facts["dropout"] > 0
        found[name] = folder_bytes(folder)
    return found


MOST = [pytest.param(step, marks=pytest.mark.slow) for step in (2, 3, 6, 8)]  # as torture does


@pytest.mark.parametrize("step", [1, 5, 9, *MOST])
@pytest.mark.parametrize(("name", "config"), [("full", FULL), ("lora", LORA)])
def test_killed_at_a_step_it_ends_as_if_never_killed(
    name: str, config: TrainConfig, step: int, gpt2: str, whole: Any, tmp_path: Path
) -> None:
    def work() -> None:
        kill_at(loop, "optimizer_step", step)
        trained(gpt2, config, tmp_path / "cut", where(tmp_path))

    assert killed(work)
    saved = sorted(path.name for path in (tmp_path / ARM).glob("ckpt-*"))
    assert saved == [f"ckpt-{at:08d}" for at in range(2, step, 2)][-2:]
    trained(gpt2, config, tmp_path / "model", where(tmp_path))
    assert folder_bytes(tmp_path / "model") == whole[name]


IO_STEPS = ("fsync_file", "fsync_dir", "replace", "write_bytes")


def count_io(kill_at_call: int | None = None) -> list[int]:
    """Count the I/O steps of this process from now on; the one named kills it."""
    calls = [0]
    for name in IO_STEPS:
        real = getattr(fs_ops, name)

        def counting(*args: Any, real: Any = real) -> Any:
            calls[0] += 1
            if calls[0] == kill_at_call:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args)

        setattr(fs_ops, name, counting)
    return calls


@pytest.fixture(scope="module")
def io_steps(gpt2: str, tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many I/O steps two saves take."""
    folder = tmp_path_factory.mktemp("counted")
    with pytest.MonkeyPatch.context() as patch:
        for name in IO_STEPS:
            patch.setattr(fs_ops, name, getattr(fs_ops, name))
        calls = count_io()
        trained(gpt2, FULL, folder / "model", where(folder, steps=4))
    return calls[0]


def survives(call: int, model: str, run: Path, whole: dict[str, bytes]) -> None:
    def work() -> None:
        count_io(kill_at_call=call)
        trained(model, FULL, run / "cut", where(run, steps=4))

    assert killed(work)
    trained(model, FULL, run / "model", where(run, steps=4))
    assert folder_bytes(run / "model") == whole
    left = {path.name for path in (run / ARM).iterdir()}
    assert left <= {"ckpt-00000004", "ckpt-00000008"} and "ckpt-00000008" in left


@pytest.mark.parametrize("share", [0.02, 0.2, 0.4, 0.49, 0.6, 0.8, 0.99])
def test_killed_inside_a_save_it_ends_as_if_never_killed(
    share: float, io_steps: int, gpt2: str, whole: Any, tmp_path: Path
) -> None:
    survives(1 + int(share * (io_steps - 1)), gpt2, tmp_path, whole["full"])


@pytest.mark.slow
def test_killed_at_every_step_of_every_save(
    io_steps: int, gpt2: str, whole: Any, tmp_path: Path
) -> None:
    assert io_steps > 30
    for call in range(1, io_steps + 1):
        survives(call, gpt2, tmp_path / str(call), whole["full"])


def flipped(path: Path, place: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DATA = ("weights.safetensors", "optimizer.safetensors", "rank-0.safetensors", "trail.json")
MUTATIONS: list[tuple[str, Callable[[Path], Any]]] = [
    *[(name, do) for name in DATA for do in (cut, Path.unlink, lambda path: flipped(path, 0.6))],
    *[
        ("manifest.json", do)
        for do in (cut, lambda path: flipped(path, 0), lambda path: path.write_text("{}"))
    ],
    *[
        ("manifest.json", lambda path, at=at: flipped(path, at))
        for at in (0.3, 0.5, 0.65, 0.8, 0.97)
    ],
]
NEWEST, BEFORE = "ckpt-00000008", "ckpt-00000006"


@pytest.fixture(scope="module")
def torn(gpt2: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run killed before its last step, with the checkpoints of steps 6 and 8."""
    run = tmp_path_factory.mktemp("torn")

    def work() -> None:
        kill_at(loop, "optimizer_step", STEPS)
        trained(gpt2, FULL, run / "cut", where(run))

    assert killed(work)
    shutil.rmtree(run / "cut", ignore_errors=True)
    return run


@pytest.mark.parametrize("number", range(len(MUTATIONS)))
def test_a_damaged_checkpoint_is_passed_over_by_name(
    number: int, torn: Path, gpt2: str, whole: Any, tmp_path: Path
) -> None:
    shutil.copytree(torn / "train", tmp_path / "train")
    name, damage = MUTATIONS[number]
    damage(tmp_path / ARM / NEWEST / name)
    warned: list[str] = []
    begun = steps_taken(gpt2, tmp_path, warned)
    assert begun == [7, 8, 9]
    assert len(warned) == 1 and f"{NEWEST} is damaged" in warned[0] and BEFORE in warned[0]
    assert folder_bytes(tmp_path / "model") == whole["full"]


def steps_taken(model: str, run: Path, warned: list[str], **changes: Any) -> list[int]:
    """Train on, and tell which steps were taken."""
    taken: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        real = loop.Step

        def step(number: int, *rest: Any) -> Any:
            taken.append(number)
            return real(number, *rest)

        patch.setattr(loop, "Step", step)
        trained(model, FULL, run / "model", where(run, warn=warned.append, **changes))
    return taken


@pytest.mark.parametrize("number", range(0, len(MUTATIONS), 3))
def test_no_valid_checkpoint_is_an_error_and_never_a_silent_restart(
    number: int, torn: Path, gpt2: str, tmp_path: Path
) -> None:
    shutil.copytree(torn / "train", tmp_path / "train")
    name, damage = MUTATIONS[number]
    for checkpoint in (NEWEST, BEFORE):
        damage(tmp_path / ARM / checkpoint / name)
    with pytest.raises(DamagedRun, match=f"{NEWEST}, .*{BEFORE} are damaged") as caught:
        trained(gpt2, FULL, tmp_path / "model", where(tmp_path))
    assert caught.value.exit_code == 6 and "--force" in (caught.value.hint or "")
    where(tmp_path).clear()
    assert steps_taken(gpt2, tmp_path, []) == list(range(1, STEPS + 1))


def of_the_one_before(run: Path) -> None:
    shutil.copyfile(run / ARM / BEFORE / "manifest.json", run / ARM / NEWEST / "manifest.json")


def of_another_arm(run: Path) -> None:
    """The same step of a training with the same key, whole and all."""
    shutil.copytree(run / ARM / NEWEST, run / "train/other/seed-0" / NEWEST)
    path = run / ARM / NEWEST / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["seal"]
    manifest["files"] = {
        name.replace(ARM, "train/other/seed-0"): at for name, at in manifest["files"].items()
    }
    Store(run).write_json(str(path.relative_to(run)), manifest)


def of_no_checkpoint(run: Path) -> None:
    Store(run).write_json(f"{ARM}/{NEWEST}/manifest.json", {"arm": "full", "files": {}})


@pytest.mark.parametrize("put", [of_the_one_before, of_another_arm, of_no_checkpoint])
def test_a_whole_manifest_of_something_else_is_no_checkpoint(
    put: Callable[[Path], None], torn: Path, gpt2: str, whole: Any, tmp_path: Path
) -> None:
    shutil.copytree(torn / "train", tmp_path / "train")
    put(tmp_path)
    warned: list[str] = []
    assert steps_taken(gpt2, tmp_path, warned) == [7, 8, 9]
    assert len(warned) == 1 and f"{NEWEST} is damaged" in warned[0]
    assert folder_bytes(tmp_path / "model") == whole["full"]


def test_unfinished_checkpoints_count_as_none(torn: Path, gpt2: str, tmp_path: Path) -> None:
    shutil.copytree(torn / "train", tmp_path / "train")
    (tmp_path / ARM / NEWEST / "manifest.json").unlink()
    assert steps_taken(gpt2, tmp_path, []) == [7, 8, 9]
    shutil.rmtree(tmp_path / "train")
    shutil.copytree(torn / "train", tmp_path / "train")
    for checkpoint in (NEWEST, BEFORE):
        (tmp_path / ARM / checkpoint / "manifest.json").unlink()
    assert steps_taken(gpt2, tmp_path, []) == list(range(1, STEPS + 1))


def test_a_checkpoint_of_something_else_is_not_gone_on_from(
    torn: Path, gpt2: str, whole: Any, tmp_path: Path
) -> None:
    shutil.copytree(torn / "train", tmp_path / "train")
    warned: list[str] = []
    begun = steps_taken(gpt2, tmp_path, warned, key="other rows")
    assert begun == list(range(1, STEPS + 1))
    assert len(warned) == 2 and all("other rows, settings or models" in text for text in warned)
    assert folder_bytes(tmp_path / "model") == whole["full"]
    # its own two have taken their place
    assert steps_taken(gpt2, tmp_path, [], key="other rows") == [9]


def test_another_length_or_seed_makes_another_training(
    torn: Path, gpt2: str, tmp_path: Path
) -> None:
    shutil.copytree(torn / "train", tmp_path / "train")
    for change in ({"steps": STEPS + 1, "seed": 3}, {"steps": STEPS, "seed": 4}):
        warned: list[str] = []
        train(
            backwards(20), gpt2, FULL, folder=tmp_path / "model", **change,
            checkpoints=where(tmp_path, warn=warned.append, steps=None),
        )  # fmt: skip
        assert len(warned) == 2


def test_only_the_newest_two_are_kept_and_nothing_but_json_and_safetensors(
    torn: Path,
) -> None:
    assert sorted(path.name for path in (torn / ARM).iterdir()) == [BEFORE, NEWEST]
    files = {path.name for path in (torn / ARM / NEWEST).iterdir()}
    assert files == {*DATA, "manifest.json"}
    manifest = json.loads((torn / ARM / NEWEST / "manifest.json").read_text())
    assert set(manifest) == {"step", "key", "world", "seal", "files"}


def test_a_short_arm_saves_nothing(gpt2: str, tmp_path: Path) -> None:
    trained(gpt2, FULL, tmp_path / "model", where(tmp_path, steps=None))
    assert not (tmp_path / "train").exists()
    trained(gpt2, FULL, tmp_path / "model", where(tmp_path, steps=None, seconds=0))
    assert (tmp_path / ARM / NEWEST / "manifest.json").is_file()


def test_what_a_loss_carries_across_steps_goes_on_too(gpt2: str, tmp_path: Path) -> None:
    """The learner's own state is saved and handed back."""
    from pilotfish.training.lm_module import LMWithLoss

    with pytest.MonkeyPatch.context() as patch:
        loaded: list[dict[str, torch.Tensor]] = []
        counted = {"steps": torch.zeros(2)}
        patch.setattr(LMWithLoss, "state", lambda self: counted, raising=False)
        patch.setattr(
            LMWithLoss, "load_state", lambda self, state: loaded.append(state), raising=False
        )
        patch.setattr(
            LMWithLoss, "after_step", lambda self: counted["steps"].add_(1), raising=False
        )
        trained(gpt2, FULL, tmp_path / "a", where(tmp_path, steps=4))
        assert not loaded and counted["steps"].tolist() == [STEPS, STEPS]
        trained(gpt2, FULL, tmp_path / "b", where(tmp_path, steps=4))
    assert [state["steps"].tolist() for state in loaded] == [[8, 8]]
