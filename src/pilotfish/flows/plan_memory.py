"""What a stage holds in memory: worked out from shapes, or the peak that a probe measured."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pilotfish.config import TuneConfig
from pilotfish.flows.plan_tokens import Model

PROCESS = 400 * 2**20  # python, torch and transformers themselves
BLOCK_FLOATS = 2**24  # logits that training holds at a time
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reading_bytes(model: Model, tokens: int, *, width: int = 4) -> int:
    """A forward pass over `tokens` tokens: weights, and the widest point of one layer."""
    return PROCESS + width * (model.parameters + tokens * _wide(model))


def training_bytes(
    model: Model, config: TuneConfig, positions: float, *, lora: bool, bf16: bool
) -> int:
    """Weights, gradients and AdamW's two moments in fp32, and what backward needs of a batch.

    positions: padded ones of one micro-batch. Under LoRA the base has neither gradients nor
    moments, and is held in bf16 where that is computed in.
    """
    shape = model.shape
    layers, vocab = (shape.layers, shape.vocab) if shape else (12, 0)
    learning = _adapters(model, config) if lora else model.parameters
    weights = model.parameters * (2 if lora and bf16 else 4)
    kept = positions * _wide(model) * layers * (2 if bf16 else 4)
    logits = 3 * 4 * min(positions * vocab, BLOCK_FLOATS)
    return int(PROCESS + weights + 12 * learning + (4 * learning if lora else 0) + kept + logits)


def answering_bytes(model: Model, tokens: float, *, width: int = 4) -> int:
    """Greedy answers: weights, and keys and values of every token in a batch."""
    shape = model.shape
    kept = 2 * shape.layers * shape.width * tokens if shape else 0
    return int(PROCESS + width * (model.parameters + kept))


def _wide(model: Model) -> int:
    """Floats of one token in one layer: residual, attention and a body four times as wide."""
    return 28 * model.shape.width if model.shape else 0


def _adapters(model: Model, config: TuneConfig) -> int:
    """Weights of LoRA on every linear map: rank times both sides; about 18 widths a layer."""
    shape = model.shape
    return int(config.lora_r * 18 * shape.width * shape.layers) if shape else 0


class Peak:
    """The most memory held inside `watching`, in bytes; 0 where nobody can say.

    On CUDA what torch asked the device for, elsewhere the resident memory of this process.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self.of = ""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Begin anew; what was held before counts where it is still held."""
        import torch

        gpu = torch.cuda.is_available()
        if gpu:
            torch.cuda.reset_peak_memory_stats()
        else:
            with suppress(OSError):  # no Linux, or not allowed: the peak since the start
                _RESET.write_text("5")
        try:
            yield
        finally:
            self.of = "memory of the GPU" if gpu else "resident memory of the process"
            self.bytes = int(torch.cuda.max_memory_allocated()) if gpu else _resident()


def _resident() -> int:
    """Linux' high-water mark of this process; 0 where there is none."""
    try:
        text = _STATUS.read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+)", text)
    return int(found[1]) * 1024 if found else 0
