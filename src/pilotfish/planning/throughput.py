"""How fast the stages of a run are here: measured by a probe, or worked out from FLOPs."""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilotfish.config import WeakTrainConfig
from pilotfish.flops import Shape, forward, generation, training
from pilotfish.planning.lengths import Model

# Share of the machine's measured matmul speed that models reach: four fifths where they are large
# and only read (docs/benchmarks.md), less where they learn, far less where they are tiny.
UTILISATION = 0.5
ROUNDS = 5
# Small operations of one layer's forward pass; a training step has three times as many.
OPERATIONS = 25
FILES = 0.1  # seconds around a stage: manifests, digests, forcing to disk
SELECT_ROW = 1e-5  # seconds a row more takes to be ranked and written down; benchmarks/memory.py
WRITE_BYTES = 2e8  # bytes a second that are hashed and forced to disk


@dataclass(frozen=True)
class Pace:
    """A line: `fixed` seconds, and `each` more for every unit."""

    fixed: float
    each: float

    def __call__(self, units: float) -> float:
        """Seconds for so many units."""
        return self.fixed + self.each * units


@dataclass(frozen=True)
class Scoring:
    """The weak model reads a pool."""

    load: float  # its weights, and their digest
    start: float  # once: which batches are safe, what is compiled, memory asked for
    encode: float  # seconds per row to cut it into tokens for every need
    token: float  # seconds per token that a forward pass reads
    shard: float  # seconds to write down what was measured of one
    fixed: float  # files and manifests around it all
    select: Pace  # of pool rows: rank them, and write every decision down
    control: Pace  # of pool rows: draw and write a control
    precision: str = "fp32"
    exact: float = 0.0  # seconds per token in fp32, where a faster format is checked against it


@dataclass(frozen=True)
class Learning:
    """A model learns, or is tuned."""

    load: float
    row: float  # seconds per row to make it ready
    step: Pace  # of padded positions: one optimizer step
    save: float
    look: float = 0.0  # seconds per token to take a held-out loss


@dataclass(frozen=True)
class Answering:
    """A model is asked a set of rows: seconds for all of them."""

    load: float
    trained: float  # once it knows when an answer ends
    untrained: float  # while it may go on to the end of its room
    prompt: float  # tokens read
    fresh: float  # tokens written

    @property
    def tokens(self) -> float:
        """Both together."""
        return self.prompt + self.fresh


@dataclass(frozen=True)
class Rates:
    """All of it. learning: by the settings of a training, as `key_of` names them."""

    how: str  # probe | formula
    words: str
    scoring: Scoring
    learning: Mapping[str, Learning]
    judging: Answering
    tuning: Learning | None = None
    judging_weak: Answering | None = None
    labelling: Answering | None = None  # the weak model answers the whole pool
    peak: Mapping[str, int] = field(default_factory=dict)  # stage -> bytes measured
    facts: Mapping[str, Any] = field(default_factory=dict)  # what was measured, as numbers


@dataclass(frozen=True)
class Machine:
    """A matrix product's speed, and what any operation costs, however small."""

    flops: float  # FLOP/s
    operation: float  # seconds

    def forward(self, shape: Shape | None, *, parameters: int) -> float:
        """Seconds per token of a forward pass."""
        shape = shape or plain_shape(parameters)
        return forward(shape, 1.0) / (UTILISATION * self.flops)

    def step(self, shape: Shape | None, *, parameters: int, lora: bool) -> Pace:
        """An optimizer step, by padded positions; AdamW moves 16 bytes a parameter or so."""
        shape = shape or plain_shape(parameters)
        each = training(shape, 1.0, lora=lora) / (UTILISATION * self.flops)
        moved = 0.0 if lora else parameters * 16 / 5e9
        return Pace(3 * OPERATIONS * shape.layers * self.operation + moved, each)

    def answers(
        self, shape: Shape | None, *, parameters: int, rows: int, prompt: float, room: float
    ) -> float:
        """Seconds of greedy answers; memory is read once a token, whoever shares the batch."""
        shape = shape or plain_shape(parameters)
        work = generation(shape, prompt, room, rows=rows) / (UTILISATION * self.flops)
        batches = max(1.0, rows * (prompt + room) / 8192)
        return work + batches * room * OPERATIONS * shape.layers * self.operation


def plain_shape(parameters: int) -> Shape:
    """Where a config does not tell: a body of that many parameters, and 2N FLOPs a token."""
    return Shape(parameters, 0, 0, 12)


def machine_speed() -> Machine:
    """Measured in about a fifth of a second, on the device that models will use."""
    import torch

    from pilotfish.models import pick_device
    from pilotfish.number_formats import pick_dtype

    device = pick_device()
    size = 512 if device.type == "cpu" else 4096
    square = torch.ones(size, size, device=device, dtype=pick_dtype("auto", device))
    few = torch.ones(8, device=device)
    product = _clock(lambda: square @ square, lambda made: float(made[0, 0]), 10)
    return Machine(
        2 * size**3 / product, _clock(lambda: few + few, lambda made: float(made[0]), 200)
    )


def _clock(work: Any, wait: Any, times: int) -> float:
    """Seconds of one call in the best of some rounds, the device's queue drained around each."""
    best = float("inf")
    wait(work())
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(times):
            last = work()
        wait(last)
        best = min(best, (time.perf_counter() - start) / times)
    return best


def loading(model: Model, bytes_each: int = 4) -> float:
    """Seconds to read and hash weights of which nothing was loaded yet: a guess."""
    return 0.1 + model.parameters * bytes_each / 5e8


def saving(model: Model) -> float:
    """Seconds to write weights, hash them and force them to disk."""
    return 0.05 + model.parameters * 4 / WRITE_BYTES


PROCESS = 400 * 2**20  # python, torch and transformers themselves
BLOCK_FLOATS = 2**24  # logits that training holds at a time
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reading_bytes(model: Model, tokens: int, *, width: int = 4) -> int:
    """A forward pass over `tokens` tokens: weights, and the widest point of one layer."""
    return PROCESS + width * (model.parameters + tokens * _wide(model))


def training_bytes(
    model: Model, config: WeakTrainConfig, positions: float, *, lora: bool, bf16: bool
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


def _adapters(model: Model, config: WeakTrainConfig) -> int:
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
