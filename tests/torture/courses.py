"""Trainings of every kind, short enough to be killed a hundred times: dropout in all of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pilotfish.config import TrainConfig
from pilotfish.data_order import row_name
from pilotfish.models import Loaded, load
from pilotfish.records import Example
from pilotfish.store import Store
from pilotfish.tokenization import encode_training
from pilotfish.training.checkpoint import Checkpoints
from pilotfish.training.classify import train_classifier
from pilotfish.training.data.row_weights import RowInfo
from pilotfish.training.teacher.outputs import TeacherOutputs
from pilotfish.training.trainer import train
from tests.tiny.encoders import tiny_encoder
from tests.tiny.models import tiny_gpt2
from tests.training.words import backwards

ARM = "train/selected/seed-0"
ROWS, STEPS, EVERY = 16, 7, 2
PLAIN = TrainConfig(
    per_device_train_batch_size=2, gradient_accumulation_steps=2, learning_rate=1e-3
)
Teach = Callable[[Path, Checkpoints | None], dict[str, Any]]


@dataclass(frozen=True)
class Course:
    """One kind of training, and what it leaves where nobody disturbs it."""

    name: str
    teach: Teach
    whole: dict[str, bytes]
    writes: int  # write steps of the training and its checkpoints


def where(run: Path, **changes: Any) -> Checkpoints:
    """Checkpoints of a run after every second step."""
    return replace(Checkpoints(Store(run), ARM, "rows and settings", steps=EVERY), **changes)


def bytes_below(folder: Path) -> dict[str, bytes]:
    """Every file of a folder: weights, settings, and the log of every step."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def kinds(folder: Path) -> dict[str, Teach]:
    """Name -> a training of that kind, over models made in `folder`."""
    student = str(tiny_gpt2(folder / "student", hidden=16))
    at_hand = load(str(tiny_gpt2(folder / "teacher", seed=1, hidden=16)), device="cpu")
    sources = ["gold" if row % 4 == 0 else "pool" for row in range(ROWS)]
    weighed = RowInfo(sources, [0.5 + row / ROWS for row in range(ROWS)])
    lora = {"use_peft": True, "lora_dropout": 0.1, "lora_r": 4}
    held = {"weak": backwards(4, seed=9)}
    made: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "full": ({}, {}),
        "lora": (lora, {}),
        "kd": ({"loss": "mix(lm=0.5, kd=0.5)"}, {"teacher": at_hand}),
        "kd until surpassed": (
            {"loss": "mix(lm=0.5, kd=0.5, kd_schedule=until_surpass)"}, {"teacher": at_hand}
        ),
        "kd stored": (
            {"loss": "kd", "teacher": "cached"},
            {"teacher_outputs": stored(at_hand, "topk")},
        ),
        "kd sampled": (
            {"loss": "kd", "teacher": "cached", "teacher_kind": "sampled"},
            {"teacher_outputs": stored(at_hand, "sampled")},
        ),
        "focus": ({"focus": "excess(keep=0.5)"}, {"teacher": at_hand}),
        "mixed": ({"gold_share": 0.3, "normalize": "rows"}, {"row_info": weighed}),
        "warmed, stopping": (
            {"warmup_lm": 2, "stop": "weak", "stop_every": 2, "stop_patience": 9},
            {"validation": held},
        ),
    }  # fmt: skip
    found = {
        name: _taught(student, PLAIN.changed(changes), how) for name, (changes, how) in made.items()
    }
    dropping = str(tiny_encoder(folder / "bert", "bert", dropout=0.2))
    return {**found, "classifier": _classified(dropping), "classifier, soft": _classified(
        dropping, soft=True
    )}  # fmt: skip


def _taught(student: str, config: TrainConfig, how: dict[str, Any]) -> Teach:
    def teach(folder: Path, checkpoints: Checkpoints | None) -> dict[str, Any]:
        folder.mkdir(parents=True, exist_ok=True)
        return train(
            backwards(ROWS), student, config, seed=3, folder=folder, steps=STEPS,
            checkpoints=checkpoints, **how,
        )  # fmt: skip

    return teach


def _classified(name: str, *, soft: bool = False) -> Teach:
    texts = [
        Example(f"r{i}", "d", i, text="ab"[i % 2] * (1 + 5 * i % 9), label=["no", "yes"][i % 2])
        for i in range(ROWS)
    ]
    share = np.random.default_rng(0).uniform(0.1, 0.9, ROWS)
    targets = np.stack([share, 1 - share], axis=1) if soft else np.arange(ROWS) % 2
    config = PLAIN.changed({"use_peft": False, "loss": "logconf(warmup=0.2)" if soft else "lm"})

    def teach(folder: Path, checkpoints: Checkpoints | None) -> dict[str, Any]:
        folder.mkdir(parents=True, exist_ok=True)
        return train_classifier(
            texts, name, config, classes=("no", "yes"), targets=targets, seed=3, folder=folder,
            steps=STEPS, checkpoints=checkpoints,
        )  # fmt: skip

    return teach


def stored(teacher: Loaded, kind: str) -> dict[str, TeacherOutputs]:
    """What a teacher says of every row: its four likeliest ids, or four draws."""
    found = {}
    rng = torch.Generator().manual_seed(0)
    for example in backwards(ROWS):
        [row] = encode_training([example], teacher.tokenizer, PLAIN.max_length)
        with torch.no_grad():
            logits = teacher.model(torch.from_numpy(row.ids.astype(np.int64))[None]).logits[0]
        logs = logits.log_softmax(-1)[np.flatnonzero(row.target) - 1]
        found[row_name(example)] = TeacherOutputs(kind, _parts(logs, kind, rng), row.digest)
    return found


def _parts(logs: torch.Tensor, kind: str, rng: torch.Generator) -> dict[str, Any]:
    if kind == "topk":
        top = logs.topk(4)
        rest = (1 - top.values.exp().sum(-1)).clamp(min=0)
        return {"ids": top.indices.numpy(), "logs": top.values.numpy(), "rest": rest.numpy()}
    drawn = torch.multinomial(logs.exp(), 4, replacement=True, generator=rng)
    return {"ids": drawn.numpy(), "weights": np.full(drawn.shape, 0.25, dtype=np.float32)}
