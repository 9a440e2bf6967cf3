"""TRL: prompt and completion (or messages), and one config per job for `trl sft --config`."""

from collections.abc import Sequence
from typing import Any

from pilotfish.export.base import SCHEDULES, Job, TrainSettings, Written, optional, yaml_text
from pilotfish.export.rows import (
    as_they_came,
    conversation,
    line,
    native,
    plain_question,
    question,
    several_answers,
    text_of,
)
from pilotfish.records import Example

_WRITERS = {"plain": plain_question, "question": question, "messages": conversation}


class Trl:
    """Dataset types of SFTTrainer, see https://huggingface.co/docs/trl/dataset_formats."""

    name = "trl"

    def write(self, jobs: Sequence[Job], settings: TrainSettings) -> Written:
        """Write <job>.jsonl and <job>.yaml for every job."""
        files: dict[str, str] = {}
        kind = native([row for job in jobs for row in job.rows])
        shape = _shape(kind, jobs, settings)
        for job in jobs:
            files[f"{job.name}.jsonl"] = text_of(_lines(job.rows, shape, keep=kind == shape))
            files[f"{job.name}.yaml"] = yaml_text(_config(job, settings, shape))
        command, setting = "trl sft --config {name}.yaml", "`data_files:` below `datasets:`"
        return Written(files, command, setting, _notes(jobs, shape))


def _shape(kind: str | None, jobs: Sequence[Job], settings: TrainSettings) -> str:
    """Return the format to write: questions with one answer; `messages` where rows have several."""
    if kind == "plain_text":
        return kind
    if not settings.chats:
        return "plain"
    return "messages" if any(several_answers(job.rows) for job in jobs) else "question"


def _lines(rows: Sequence[Example], shape: str, *, keep: bool) -> list[str]:
    if keep:
        return as_they_came(rows)
    return [line(_WRITERS[shape](row)) for row in rows]


def _config(job: Job, settings: TrainSettings, shape: str) -> dict[str, Any]:
    config = settings.config
    lora = {
        "use_peft": True,
        "lora_r": config.lora_r,
        "lora_alpha": round(config.lora_alpha),
        "lora_dropout": config.lora_dropout,
        "lora_target_modules": config.lora_target_modules or ["all-linear"],
    }
    return {
        "datasets": [{"path": "json", "data_files": f"{job.name}.jsonl"}],
        "model_name_or_path": settings.strong,
        "output_dir": f"out/{job.name}",
        "max_steps": settings.steps,
        "per_device_train_batch_size": config.per_device_train_batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": SCHEDULES[config.lr_scheduler_type],
        "warmup_steps": settings.warmup_steps,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "max_length": config.max_length,  # TRL truncates to 1024 by default
        "packing": False,
        **({"completion_only_loss": True} if shape in ("plain", "question") else {}),
        **({"assistant_only_loss": True} if shape == "messages" else {}),
        "train_sampling_strategy": "sequential",  # the file is in the order of training
        "seed": job.draw,
        "data_seed": job.draw,
        **(lora if settings.peft else {"use_peft": False}),
        **optional("bf16", config.bf16),
        "save_strategy": "no",  # the model is saved at the end
        "report_to": "none",
    }


def _notes(jobs: Sequence[Job], shape: str) -> list[str]:
    count = sum(several_answers(job.rows) for job in jobs)
    if shape == "messages":
        return [
            "rows hold several answers: TRL finds them by the markers of the common chat templates "
            "that it knows, and refuses other templates"
        ]
    if shape != "plain" or not count:
        return []
    return [
        f"{count:,} rows hold several answers: TRL trains on the last one of each, pilotfish on "
        "all of them"
    ]
