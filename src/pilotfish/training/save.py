"""Write a trained model as a standard folder, and copy weights in memory."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers.utils import logging

from pilotfish.training.parallel import put_parameters, rank, trained_parameters
from pilotfish.training.setup import Student, accelerator


def save(student: Student, folder: Path) -> None:
    """Write safetensors, config and tokenizer into `folder`, on the main process only.

    Under LoRA the adapter goes to `folder`/adapter, and the folder itself holds base and adapter
    merged, so that it loads like any other model. The student is merged in place, and must not be
    trained further.
    """
    if accelerator().is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        with _without_progress_bars():
            model = student.model
            if student.peft:
                model.save_pretrained(folder / "adapter")
                (folder / "adapter/README.md").unlink(missing_ok=True)  # peft's empty model card
                model = model.merge_and_unload()
            model.save_pretrained(folder)
            student.loaded.tokenizer.save_pretrained(folder)
    accelerator().wait_for_everyone()


def in_one_piece(student: Student, learner: nn.Module, reload: Callable[[], Student]) -> Student:
    """Return the student with whole weights, if FSDP2 has sharded it; else the student itself.

    Args:
        student: The trained student.
        learner: The module that FSDP2 may have sharded.
        reload: Loads the student as it was before training; called on rank 0, which saves.
    """
    if not isinstance(learner, FSDPModule):
        return student
    weights = trained_parameters(learner)
    if rank() != 0:
        return student
    whole = reload()
    named = dict(whole.causal.named_parameters())
    for name, weight in weights.items():
        put_parameters(named[name.removeprefix("model.")], weight)
    return whole


def write_log(lines: Iterable[dict[str, Any]], folder: Path) -> None:
    """Write `folder`/log.jsonl. It holds no times, so that a rerun writes the same bytes."""
    if accelerator().is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        (folder / "log.jsonl").write_text(text, encoding="utf-8")


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Switch transformers' progress bars off: only the command line writes to the terminal."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def snapshot(student: Student) -> dict[str, Tensor]:
    """Copy all trained weights, by name; of sharded weights this rank's part."""
    named = student.model.named_parameters()
    return {name: local(weight).detach().clone() for name, weight in named if weight.requires_grad}


@torch.no_grad()
def restore(student: Student, weights: Mapping[str, Tensor]) -> None:
    """Load the weights of a snapshot."""
    for name, weight in student.model.named_parameters():
        if name in weights:
            local(weight).copy_(weights[name])


def local(weight: Tensor) -> Tensor:
    """Return this rank's part of a weight that may be sharded."""
    return weight.to_local() if isinstance(weight, DTensor) else weight
