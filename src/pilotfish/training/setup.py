"""What stands before the first step: loss, device, model or LoRA, learning rate, optimizer."""

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
    """The process's one accelerator. Precision stays with each run, since its state is shared."""
    return Accelerator(mixed_precision="no")


def default_learning_rate(trained: int, *, peft: bool) -> float:
    """Peak rate by rule of thumb: small models bear, and need, larger steps.

    Full fine-tuning: 5e-4 at a million trained parameters, falling with their number to the power
    of 0.3, kept within [2e-5, 1e-3] (6e-5 at 1e9). LoRA: 2e-4.
    """
    if peft:
        return LORA_RATE
    millions: float = max(trained, 1) / 1e6
    return float(min(max(5e-4 * millions**-0.3, 2e-5), 1e-3))


def peak_rate(config: TrainConfig, given: float | None, trained: int, *, peft: bool) -> float:
    """The rate to train with: the one given, else the config's, else the rule of thumb's."""
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
    """A model made ready for training."""

    loaded: Loaded
    model: Any  # what is trained: the model itself, or peft's wrapper around it
    peft: bool
    bf16: bool

    @property
    def causal(self) -> Any:
        """The language model itself; peft puts its layers right into it."""
        return self.loaded.model

    @property
    def trained(self) -> int:
        """Number of parameters that learn."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    @property
    def dropout(self) -> float:
        """The largest dropout probability in force while training; 0 for most LMs of today."""
        layers = [m.p for m in self.model.modules() if isinstance(m, nn.Dropout)]
        fields = vars(self.causal.config.get_text_config())
        named = [
            value
            for name, value in fields.items()
            if name.endswith(("dropout", "pdrop")) and isinstance(value, int | float)
        ]
        return float(max([0.0, *layers, *named]))


def prepare(name: str, config: TrainConfig, *, device: torch.device | None = None) -> Student:
    """Load the model in full precision, on the accelerator's device where none is named, and wrap
    it in LoRA if asked.

    Full fine-tuning keeps fp32 weights (bf16 is autocast). Under LoRA with bf16 the frozen base is
    held in bf16 and the adapters in fp32.
    """
    precision = "bf16" if wants_bf16(config) and config.use_peft else "fp32"
    loaded = load(name, device=str(device or accelerator().device), precision=precision)
    return add_adapters(loaded, config)


def wants_bf16(config: TrainConfig) -> bool:
    """Whether to compute in bf16: as asked, else on GPUs that have it."""
    if config.bf16 is not None:
        return config.bf16
    return accelerator().device.type == "cuda" and bool(torch.cuda.is_bf16_supported())


def learns_lora(config: TrainConfig, parameters: int) -> bool:
    """Whether a model of that size learns by LoRA: as asked, else from `LORA_FROM` on."""
    return config.use_peft if config.use_peft is not None else parameters >= LORA_FROM


def add_adapters(loaded: Loaded, config: TrainConfig, *, task: str = "CAUSAL_LM") -> Student:
    """A loaded model with the parameters that are to learn made ready; `task` is peft's word."""
    bf16 = wants_bf16(config)
    size = sum(p.numel() for p in loaded.model.parameters())
    if not learns_lora(config, size):
        loaded.model.requires_grad_(True)
        return Student(loaded, loaded.model, False, bf16)
    if bf16:
        loaded.model.to(torch.bfloat16)
    return Student(loaded, _with_lora(loaded, config, task), True, bf16)


def _with_lora(loaded: Loaded, config: TrainConfig, task: str) -> Any:
    from peft import LoraConfig, get_peft_model

    heads = _heads(loaded.model) if task == "SEQ_CLS" else []
    lora = LoraConfig(
        task_type=task,
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=config.lora_target_modules or "all-linear",
        # A new head has learnt nothing yet that a few ranks could change: it learns as a whole.
        modules_to_save=heads or None,
        exclude_modules=rf"({'|'.join(heads)})(\..*)?" if heads else None,
        # GPT-2 keeps its linear weights transposed.
        fan_in_fan_out=any(type(m).__name__ == "Conv1D" for m in loaded.model.modules()),
    )
    with warnings.catch_warnings():
        # peft asks transformers for a property by a name that is on its way out.
        warnings.simplefilter("ignore", FutureWarning)
        model = get_peft_model(loaded.model, lora)
    for weight in model.parameters():
        if weight.requires_grad:  # a head cut from a base in bf16 would not see its small steps
            weight.data = weight.data.float()
    return model


def _heads(model: Any) -> list[str]:
    """What a classifier has beside its body, by name."""
    body = model.base_model
    return [
        name
        for name, child in model.named_children()
        if child is not body and any(True for _ in child.parameters())
    ]


def build_optimizer(trained: Sequence[nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    """AdamW in one fused kernel; norms and biases do not decay. The rate is set at each step."""
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=0.0, fused=True)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's generators seeded inside (LoRA's start, dropout), as they were before outside."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def unlike_tokenizers(teacher: str, student: str) -> UsageError:
    """The refusal of token-level KD between models that cut text differently."""
    return UsageError(
        f"token-level KD needs one tokenizer, but '{teacher}' (teacher) and '{student}' (student) "
        "have different ones, so their tokens cannot be matched",
        hint="train with --loss lm: rows the weak model selected (arm selected), or answers it "
        "wrote (arm relabel_all), cross tokenizers",
    )


def check_teacher(student: Loaded, teacher: Loaded | None, longest: int) -> Loaded:
    """The teacher, where it can read exactly what the student reads; else UsageError.

    Same tokenizer (by digest), window at least `longest` tokens.
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
    """UsageError where the teacher cannot read a row of `longest` tokens."""
    if teacher.window is not None and longest > teacher.window:
        raise UsageError(
            f"the longest row has {longest} tokens, but the teacher '{teacher.name}' reads only "
            f"{teacher.window}",
            hint=f"pass --set train.max_length={teacher.window}, or train with --loss lm",
        )
