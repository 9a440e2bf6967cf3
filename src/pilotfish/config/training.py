"""How models are trained: TrainingArguments' names, one table of defaults."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from pilotfish.config.settings import Block


class WeakTrainConfig(Block):
    """The `weak_train:` block: how the weak model is trained on the trusted rows.

    The best epoch is kept. None: decided from model and data, and recorded.
    """

    learning_rate: float | list[float] | None = None
    """Of a list, every rate is tried. Default: a rule of thumb by model size, tried at several
    multiples for the weak model."""
    per_device_train_batch_size: int = Field(16, gt=0)
    """Rows per batch on each device."""
    warmup_steps: float = Field(0.05, ge=0)
    """Number of warm-up steps; below 1, a share of all steps."""
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay of AdamW (arXiv:1711.05101)."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Largest norm of the gradient; larger ones are scaled down."""
    max_length: int = Field(1024, gt=1)
    """Longest row in tokens; longer ones are truncated."""
    use_peft: bool | None = None
    """Whether to train LoRA adapters (arXiv:2106.09685). Default: yes from 500M parameters on, else
    full fine-tuning."""
    lora_r: int = Field(16, gt=0)
    """Rank of the LoRA matrices."""
    lora_alpha: float = Field(32, gt=0)
    """Scale of the LoRA update: lora_alpha / lora_r."""
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the LoRA matrices."""
    lora_target_modules: list[str] | None = None
    """Names of the layers that get adapters. Default: all linear layers."""
    bf16: bool | None = None
    """Whether to train in bfloat16. Default: on GPUs that have it."""


class TrainConfig(WeakTrainConfig):
    """The `train:` block: how the strong model is trained.

    Of a list of learning rates, each arm takes the best on held-out trusted rows.
    """

    loss: str = "lm"
    """LOSS: `lm`, `kd(temperature=1)`, or `mix(lm=0.7, kd=0.3, temperature=1)`."""
    teacher: Literal["online", "cached"] = "online"
    """For losses with the weak model as teacher: run it at every step, or store its outputs for an
    arm's rows once and train without it in memory."""
    teacher_kind: Literal["topk", "dense", "sampled"] = "topk"
    """Which outputs of a cached teacher are stored per token: the likeliest ids and the rest as
    one, all ids (for small vocabularies), or sampled ids."""
    teacher_top_k: int = Field(64, gt=0)
    """Number of ids stored per token by topk, or of samples by sampled."""
    num_train_epochs: float = Field(3.0, gt=0)
    """Passes over the *selected* rows; every arm takes the same number of steps."""
    max_steps: int | None = Field(None, gt=0)
    """Optimizer steps of every arm; overrides num_train_epochs."""
    gradient_accumulation_steps: int = Field(1, gt=0)
    """Batches per optimizer step."""
    normalize: Literal["tokens", "rows"] = "tokens"
    """Whether the loss of a step is a mean over its supervised tokens or over its rows."""
    weights: str | None = None
    """Column of the data with the weight of each row, at least 0; rows from other data have
    weight 1."""
    focus: str | None = None
    """Train only on the tokens with the largest excess loss of the strong model at its start over
    the weak one, as `excess(keep=0.6)` (arXiv:2404.07965). Default: on all tokens."""
    gold_share: float | None = Field(None, gt=0, lt=1)
    """Share of trusted rows in every step of the trusted arms, by tokens. Default: they are
    shuffled among the others."""
    replay: str | None = None
    """DATA of an earlier training, mixed into every step against forgetting."""
    replay_share: float = Field(0.1, gt=0, lt=1)
    """Share of `replay` rows in every step, by tokens."""
    warmup_lm: int = Field(0, ge=0)
    """Number of steps on the prompts alone, without answers, before all others."""
    stop: Literal["none", "weak", "gold"] = "none"
    """Early stopping: keep the weights with the lowest loss on held-out rows. weak: rows of the arm
    with its own labels. gold: trusted rows, which makes the arm an oracle."""
    stop_rows: int = Field(200, gt=0)
    """Number of rows of the arm held out for early stopping, at most a fifth of them."""
    stop_every: int | None = Field(None, gt=0)
    """Steps between two validations. Default: a twentieth of all."""
    stop_patience: int = Field(3, gt=0)
    """Training ends after this many validations without a lower loss."""
    save_steps: int | None = Field(None, gt=0)
    """Optimizer steps between two checkpoints. Default: by `save_seconds` alone."""
    save_seconds: float = Field(600, ge=0)
    """Seconds after which the next step saves a checkpoint."""
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    """How torchrun's processes share the work. auto: DDP where model, gradients and optimizer fit
    on each device, else FSDP2."""

    @model_validator(mode="after")
    def _check_shares(self) -> "TrainConfig":
        if self.replay and self.gold_share and self.gold_share + self.replay_share >= 1:
            raise ValueError("gold_share and replay_share leave nothing for all other rows")
        return self

    @property
    def of_language_models(self) -> list[str]:
        """Names of settings in use that apply to language models only."""
        plain = TrainConfig()
        names = (
            "normalize", "weights", "focus", "gold_share", "replay", "warmup_lm", "stop", "teacher",
        )  # fmt: skip
        return [name for name in names if getattr(self, name) != getattr(plain, name)]

    def changed(self, changes: Mapping[str, Any]) -> "TrainConfig":
        """Return a copy with some settings changed; raises ValidationError for unknown ones."""
        return TrainConfig.model_validate({**self.model_dump(), **changes})
