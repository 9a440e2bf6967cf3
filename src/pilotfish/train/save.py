"""Writes what was trained as a standard model folder that everybody can load."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from torch.distributed.fsdp import FSDPModule
from transformers.utils import logging

from pilotfish.train.parallel import learned, put, rank
from pilotfish.train.setup import Student, accelerator


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
    weights = learned(learner)
    if rank() != 0:
        return student
    fresh = afresh()
    named = dict(fresh.causal.named_parameters())
    for name, weight in weights.items():
        put(named[name.removeprefix("model.")], weight)
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
