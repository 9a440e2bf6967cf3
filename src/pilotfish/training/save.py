"""Writes what was trained as a standard model folder that everybody can load."""

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
    """Write safetensors, config and tokenizer into `folder`; only the main process writes.

    LoRA: the adapter goes to `folder`/adapter, and the folder itself holds base + adapter merged,
    so that it loads like any other. The student is merged in place: train it no further.
    """
    if accelerator().is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        with _no_bars():
            model = _merged(student, folder / "adapter") if student.peft else student.model
            model.save_pretrained(folder)
            student.loaded.tokenizer.save_pretrained(folder)
    accelerator().wait_for_everyone()


def _merged(student: Student, adapter: Path) -> Any:
    student.model.save_pretrained(adapter)
    (adapter / "README.md").unlink(missing_ok=True)  # peft's empty model card
    return student.model.merge_and_unload()


def in_one_piece(student: Student, learner: nn.Module, afresh: Callable[[], Student]) -> Student:
    """The student as it was before FSDP2 cut it up: made `afresh`, with what was learnt put in.

    Called on every rank; only rank 0, which saves, gets the new one. Without FSDP2: the student.
    """
    if not isinstance(learner, FSDPModule):
        return student
    weights = trained_parameters(learner)
    if rank() != 0:
        return student
    fresh = afresh()
    named = dict(fresh.causal.named_parameters())
    for name, weight in weights.items():
        put_parameters(named[name.removeprefix("model.")], weight)
    return fresh


def write_log(lines: Iterable[dict[str, Any]], folder: Path) -> None:
    """Write `folder`/log.jsonl. No times in it, so that a rerun writes the same bytes."""
    if accelerator().is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        (folder / "log.jsonl").write_text(text, encoding="utf-8")


@contextmanager
def _no_bars() -> Iterator[None]:
    """transformers' progress bars off inside: only the command line talks to people."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def snapshot(student: Student) -> dict[str, Tensor]:
    """A copy of everything that is being trained, by name: of sharded weights this rank's part."""
    named = student.model.named_parameters()
    return {name: local(weight).detach().clone() for name, weight in named if weight.requires_grad}


@torch.no_grad()
def restore(student: Student, weights: Mapping[str, Tensor]) -> None:
    """Put such a copy back."""
    for name, weight in student.model.named_parameters():
        if name in weights:
            local(weight).copy_(weights[name])


def local(weight: Tensor) -> Tensor:
    """This rank's part of a weight that may be sharded."""
    return weight.to_local() if isinstance(weight, DTensor) else weight
