"""How models are trained: TrainingArguments' names, one table of defaults."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from pilotfish.config.base import Block


class TuneConfig(Block):
    """The `tune:` block: the weak model on the trusted rows; the epoch that does best is kept.

    None: decided from model and data, and recorded.
    """

    learning_rate: float | list[float] | None = None
    """A list is tried in full; None tries shares of a rule of thumb by size."""
    per_device_train_batch_size: int = Field(16, gt=0)
    warmup_steps: float = Field(0.05, ge=0)
    """Below 1: a share of all steps; else a number of steps."""
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "cosine"
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    max_length: int = Field(1024, gt=1)
    use_peft: bool | None = None
    """LoRA. None: yes from 500M parameters on, else full fine-tuning."""
    lora_r: int = Field(16, gt=0)
    lora_alpha: float = Field(32, gt=0)
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    lora_target_modules: list[str] | None = None
    bf16: bool | None = None
    """None: on GPUs that have it."""


class TrainConfig(TuneConfig):
    """The `train:` block: the strong model. A list of learning rates is tried per arm."""

    loss: str = "lm"
    """LOSS: `lm`, `kd(temperature=1)`, or `mix(lm=0.7, kd=0.3, temperature=1)`."""
    teacher: Literal["online", "cached"] = "online"
    """For losses that learn from the weak model: read it at every step, or store what it says of an
    arm's rows once and train without it in memory."""
    teacher_kind: Literal["topk", "dense", "sampled"] = "topk"
    """What a cached teacher stores per token: its likeliest ids and the rest as one, every id (of
    small vocabularies), or draws."""
    teacher_top_k: int = Field(64, gt=0)
    """Ids stored per token by topk, draws by sampled."""
    num_train_epochs: float = Field(3.0, gt=0)
    """Passes over the *selected* rows; every arm takes the same number of steps."""
    max_steps: int | None = Field(None, gt=0)
    """Optimizer steps of every arm; overrides num_train_epochs."""
    gradient_accumulation_steps: int = Field(1, gt=0)
    normalize: Literal["tokens", "rows"] = "tokens"
    """What a step's loss is a mean over: its supervised tokens, or its rows."""
    weights: str | None = None
    """A column of the data with what each row counts, at least 0; rows from elsewhere count 1."""
    focus: str | None = None
    """Learn only the tokens that the weak model finds so much easier than the strong one at its
    start: `excess(keep=0.6)`. None: all."""
    gold_share: float | None = Field(None, gt=0, lt=1)
    """Share by tokens that trusted rows have in every step of the trusted arms. None: they are
    shuffled among the others."""
    replay: str | None = None
    """DATA of an earlier training, mixed into every step so that it is not forgotten."""
    replay_share: float = Field(0.1, gt=0, lt=1)
    """Its share of every step, by tokens."""
    warmup_lm: int = Field(0, ge=0)
    """Steps before all others on the prompts alone, no answer in sight."""
    stop: Literal["none", "weak", "gold"] = "none"
    """Keep the weights of the lowest loss on held-out rows: of the arm's own, with the labels it
    learns (weak), or of the trusted rows (gold), which makes the arm an oracle."""
    stop_rows: int = Field(200, gt=0)
    """Rows held out of the arm's own to look at, at most a fifth of them."""
    stop_every: int | None = Field(None, gt=0)
    """Steps between two looks. None: a twentieth of all."""
    stop_patience: int = Field(3, gt=0)
    """Looks without a lower loss after which training ends."""
    save_steps: int | None = Field(None, gt=0)
    """Optimizer steps between two checkpoints. None: by `save_seconds` alone."""
    save_seconds: float = Field(600, ge=0)
    """Save a checkpoint where the last one is older than this."""
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    """Under torchrun. auto: DDP where all that training holds fits on each device, else FSDP2."""

    @model_validator(mode="after")
    def _room_for_the_rest(self) -> "TrainConfig":
        if self.replay and self.gold_share and self.gold_share + self.replay_share >= 1:
            raise ValueError("gold_share and replay_share leave nothing for all other rows")
        return self

    @property
    def of_language_models(self) -> list[str]:
        """The settings in use that classifiers and label experiments do not know."""
        plain = TrainConfig()
        names = (
            "normalize", "weights", "focus", "gold_share", "replay", "warmup_lm", "stop", "teacher",
        )  # fmt: skip
        return [name for name in names if getattr(self, name) != getattr(plain, name)]

    def changed(self, changes: Mapping[str, Any]) -> "TrainConfig":
        """The same with some settings changed, checked anew. ValidationError for unknown ones."""
        return TrainConfig.model_validate({**self.model_dump(), **changes})
