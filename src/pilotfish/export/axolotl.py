"""axolotl: data and one config per job for `axolotl train`."""

from collections.abc import Sequence
from typing import Any

from pilotfish.data_order import rows_per_step
from pilotfish.export.base import SCHEDULES, Job, TrainSettings, Written, yaml_text
from pilotfish.export.rows import (
    as_they_came,
    columns,
    conversation,
    line,
    native,
    segments,
    text_of,
)
from pilotfish.records import Example

_CHAT = {"type": "chat_template", "roles_to_train": ["assistant"], "train_on_eos": "turn"}
_TYPES: dict[str, dict[str, Any]] = {
    "alpaca": {"type": "alpaca"},
    "plain_text": {"type": "completion", "field": "text"},
    "segments": {"type": "input_output"},
    "messages": {
        **_CHAT, "field_messages": "messages",
        "message_property_mappings": {"role": "role", "content": "content"},
    },
    "sharegpt": {
        **_CHAT, "field_messages": "conversations",
        "message_property_mappings": {"role": "from", "content": "value"},
        "roles": {
            "assistant": ["gpt", "chatgpt", "model", "assistant", "function_call"],
            "user": ["human", "user"],
            "system": ["system"], "tool": ["tool", "observation", "function_response"],
        },
    },
}  # fmt: skip


class Axolotl:
    """Dataset types as documented in docs/dataset-formats of axolotl."""

    name = "axolotl"

    def write(self, jobs: Sequence[Job], settings: TrainSettings) -> Written:
        """Write <job>.jsonl and <job>.yaml for every job."""
        files: dict[str, str] = {}
        shape, rewritten = _shape([row for job in jobs for row in job.rows], settings)
        for job in jobs:
            files[f"{job.name}.jsonl"] = text_of(_lines(job.rows, shape, rewritten, settings))
            files[f"{job.name}.yaml"] = yaml_text(_config(job, settings, shape))
        notes = []
        if shape == "alpaca":
            notes = [
                "axolotl writes alpaca rows with Alpaca's own prompt and no chat template: use the "
                "same prompt when you evaluate the models"
            ]
        return Written(files, "axolotl train {name}.yaml", "`path:` below `datasets:`", notes)


def _shape(rows: Sequence[Example], settings: TrainSettings) -> tuple[str, bool]:
    """Return the format to write, and whether rows must be rewritten in it.

    Rows in a format that axolotl reads stay as they are.
    """
    kind = native(rows)
    if kind == "alpaca" and not columns(rows) & {"system", "history"}:  # axolotl ignores them
        return kind, False
    if kind == "plain_text":
        return kind, False
    if not settings.chats:
        return "segments", True
    if kind == "messages" or (kind == "sharegpt" and "system" not in columns(rows)):
        return kind, False
    return "messages", True


def _lines(
    rows: Sequence[Example], shape: str, rewritten: bool, settings: TrainSettings
) -> list[str]:
    if not rewritten:
        return as_they_came(rows)
    if shape == "segments":
        return [line(segments(row, settings.end)) for row in rows]
    return [line(conversation(row)) for row in rows]


def _config(job: Job, settings: TrainSettings, shape: str) -> dict[str, Any]:
    config = settings.config
    modules = config.lora_target_modules
    lora = {
        "adapter": "lora",
        "lora_r": config.lora_r,
        "lora_alpha": round(config.lora_alpha),
        "lora_dropout": config.lora_dropout,
        **({"lora_target_modules": modules} if modules else {"lora_target_linear": True}),
    }
    return {
        "datasets": [{"path": f"{job.name}.jsonl", "ds_type": "json", **_TYPES[shape]}],
        "base_model": settings.strong,
        "output_dir": f"out/{job.name}",
        "dataset_prepared_path": f"prepared/{job.name}",
        "val_set_size": 0,
        "shuffle_merged_datasets": False,
        "curriculum_sampling": True,  # the file is in the order of training
        "sequence_len": config.max_length,
        "excess_length_strategy": "truncate",  # axolotl drops longer rows without it
        "sample_packing": False,
        "train_on_inputs": False,
        **(lora if settings.peft else {}),
        "max_steps": settings.steps,
        "num_epochs": settings.steps * rows_per_step(config) // max(len(job.rows), 1) + 1,
        "micro_batch_size": config.per_device_train_batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "optimizer": "adamw_torch_fused",
        "learning_rate": settings.learning_rate,
        "lr_scheduler": SCHEDULES[config.lr_scheduler_type],
        "warmup_steps": settings.warmup_steps,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "seed": job.draw,
        "bf16": "auto" if config.bf16 is None else config.bf16,
        "save_strategy": "no",  # the model is saved at the end
    }
