"""Prepare a training: device, model or LoRA, learning rate, optimizer, and checks of a teacher."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from pilotfish.config import TrainConfig
from pilotfish.errors import UsageError
from pilotfish.models import Loaded, load

LORA_FROM = 500_000_000  # parameters
LORA_RATE = 2e-4


@cache
def accelerator() -> Accelerator:
    """Return the one accelerator of the process; precision is set per run, since it is shared."""
    return Accelerator(mixed_precision="no")


def default_learning_rate(trained: int, *, peft: bool) -> float:
    """Return the peak rate by rule of thumb: small models need larger steps.

    Full fine-tuning: 5e-4 at a million trained parameters, falling with their number to the power
    of 0.3, kept within [2e-5, 1e-3] (6e-5 at 1e9). LoRA: 2e-4.

    Args:
        trained: Number of trained parameters.
        peft: Whether the model is trained by LoRA.
    """
    if peft:
        return LORA_RATE
    millions: float = max(trained, 1) / 1e6
    return float(min(max(5e-4 * millions**-0.3, 2e-5), 1e-3))


def peak_rate(config: TrainConfig, given: float | None, trained: int, *, peft: bool) -> float:
    """Return the learning rate: the one given, else the config's, else the rule of thumb's.

    Args:
        config: Its `learning_rate` is a number, a list of one, or None.
        given: Overrides the config.
        trained: Number of trained parameters.
        peft: Whether the model is trained by LoRA.

    Raises:
        UsageError: Several rates, or one out of range.
    """
    rate = given if given is not None else config.learning_rate
    if isinstance(rate, list):
        if len(set(rate)) != 1:
            raise UsageError(
                f"train needs one learning rate, not {len(rate)}",
                hint="pick one of them on held-out rows with pick_learning_rate",
            )
        rate = rate[0]
    rate = default_learning_rate(trained, peft=peft) if rate is None else float(rate)
    if not 0 < rate < 10:
        raise UsageError(f"a learning rate of {rate:g} is out of range", hint="write e.g. 1e-4")
    return rate


@dataclass(frozen=True)
class Student:
    """A model prepared for training."""

    loaded: Loaded
    model: Any  # the trained model: `causal`, or peft's wrapper around it
    peft: bool  # whether it is trained by LoRA
    bf16: bool  # whether forward passes run under bf16 autocast

    @property
    def causal(self) -> Any:
        """The language model itself; peft puts its layers into it."""
        return self.loaded.model

    @property
    def trained(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    @property
    def dropout(self) -> float:
        """The largest dropout probability in training; 0 for most LMs of today."""
        layers = [m.p for m in self.model.modules() if isinstance(m, nn.Dropout)]
        fields = vars(self.causal.config.get_text_config())
        named = [
            value
            for name, value in fields.items()
            if name.endswith(("dropout", "pdrop")) and isinstance(value, int | float)
        ]
        return float(max([0.0, *layers, *named]))


def prepare(name: str, config: TrainConfig, *, device: torch.device | None = None) -> Student:
    """Load a model for training, and add LoRA adapters if the config wants them.

    Full fine-tuning keeps fp32 weights (bf16 is autocast). Under LoRA with bf16 the frozen base is
    held in bf16 and the adapters in fp32.

    Args:
        name: Local folder or hub id.
        config: Precision and LoRA settings.
        device: Where to load it; None: the accelerator's device.
    """
    precision = "bf16" if wants_bf16(config) and config.use_peft else "fp32"
    loaded = load(name, device=str(device or accelerator().device), precision=precision)
    return add_adapters(loaded, config)


def wants_bf16(config: TrainConfig) -> bool:
    """Return whether to compute in bf16: as configured, else on GPUs that support it."""
    if config.bf16 is not None:
        return config.bf16
    return accelerator().device.type == "cuda" and bool(torch.cuda.is_bf16_supported())


def learns_lora(config: TrainConfig, parameters: int) -> bool:
    """Return whether a model is trained by LoRA: as configured, else from `LORA_FROM` on."""
    return config.use_peft if config.use_peft is not None else parameters >= LORA_FROM


def add_adapters(loaded: Loaded, config: TrainConfig, *, task: str = "CAUSAL_LM") -> Student:
    """Make the parameters of a loaded model trainable: all of them, or LoRA adapters.

    Args:
        loaded: The model, changed in place.
        config: Precision and LoRA settings.
        task: peft's task type, CAUSAL_LM or SEQ_CLS. A classifier's head is trained as a whole.
    """
    bf16, model = wants_bf16(config), loaded.model
    if not learns_lora(config, sum(p.numel() for p in model.parameters())):
        model.requires_grad_(True)
        return Student(loaded, model, False, bf16)
    if bf16:
        model.to(torch.bfloat16)
    from peft import LoraConfig, get_peft_model

    heads = []
    if task == "SEQ_CLS":
        heads = [
            name
            for name, child in model.named_children()
            if child is not model.base_model and any(True for _ in child.parameters())
        ]
    lora = LoraConfig(
        task_type=task,
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=config.lora_target_modules or "all-linear",
        # A new head has learnt nothing yet that a low rank could change: it is trained as a whole.
        modules_to_save=heads or None,
        exclude_modules=rf"({'|'.join(heads)})(\..*)?" if heads else None,
        # GPT-2 keeps its linear weights transposed.
        fan_in_fan_out=any(type(m).__name__ == "Conv1D" for m in model.modules()),
    )
    with warnings.catch_warnings():
        # peft reads a property of transformers by a deprecated name.
        warnings.simplefilter("ignore", FutureWarning)
        wrapped = get_peft_model(model, lora)
    for weight in wrapped.parameters():
        if weight.requires_grad:  # small steps would be lost in the bf16 of a head
            weight.data = weight.data.float()
    return Student(loaded, wrapped, True, bf16)


def build_optimizer(trained: Sequence[nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    """Build a fused AdamW; norms and biases do not decay. The rate is set at each step."""
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=0.0, fused=True)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generators inside (LoRA's start, dropout), and restore them afterwards."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def unlike_tokenizers(teacher: str, student: str) -> UsageError:
    """Return the error for token-level KD between models with different tokenizers."""
    return UsageError(
        f"token-level KD needs one tokenizer, but '{teacher}' (teacher) and '{student}' (student) "
        "have different ones, so their tokens cannot be matched",
        hint="train with --loss lm: rows the weak model selected (arm selected), or answers it "
        "wrote (arm relabel_all), cross tokenizers",
    )


def check_teacher(student: Loaded, teacher: Loaded | None, longest: int) -> Loaded:
    """Return the teacher if it can read exactly what the student reads.

    Args:
        student: The model to train.
        teacher: None raises.
        longest: Tokens of the longest row.

    Raises:
        UsageError: No teacher, another tokenizer (by digest), or a window below `longest`.
    """
    if teacher is None:
        raise UsageError(
            "this loss needs a teacher, and none was given",
            hint="name the weak model, or train with --loss lm",
        )
    if teacher.tokenizer_digest != student.tokenizer_digest:
        raise unlike_tokenizers(teacher.name, student.name)
    check_reach(teacher, longest)
    return teacher


def check_reach(teacher: Loaded, longest: int) -> None:
    """Raise UsageError where the teacher cannot read a row of `longest` tokens."""
    if teacher.window is not None and longest > teacher.window:
        raise UsageError(
            f"the longest row has {longest} tokens, but the teacher '{teacher.name}' reads only "
            f"{teacher.window}",
            hint=f"pass --set train.max_length={teacher.window}, or train with --loss lm",
        )
