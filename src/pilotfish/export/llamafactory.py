"""LLaMA-Factory: data, dataset_info.json, and one config per job for `llamafactory-cli train`."""

import json
from collections.abc import Sequence
from typing import Any

from pilotfish.export.base import SCHEDULES, Job, TrainSettings, Written, optional, yaml_text
from pilotfish.export.rows import as_they_came, columns, conversation, line, native, text_of
from pilotfish.records import Example

_TAGS = {
    "role_tag": "role", "content_tag": "content", "user_tag": "user",
    "assistant_tag": "assistant", "observation_tag": "tool", "system_tag": "system",
}  # fmt: skip
_ALPACA = {
    "prompt": "instruction", "query": "input", "response": "output", "system": "system",
    "history": "history",
}  # fmt: skip
_SPEAKERS = {"human", "gpt", "observation", "function_call", "system"}
_QUESTION, _ANSWER = ("user", "tool"), ("assistant",)


class LlamaFactory:
    """The alpaca and sharegpt formats, as documented in data/README.md of LLaMA-Factory."""

    name = "llamafactory"

    def write(self, jobs: Sequence[Job], settings: TrainSettings) -> Written:
        """Write <job>.jsonl and <job>.yaml for every job, and dataset_info.json for all."""
        files, info = dict[str, str](), dict[str, Any]()
        shape = _shape([row for job in jobs for row in job.rows])
        for job in jobs:
            info[job.name] = {"file_name": f"{job.name}.jsonl", **_entry(shape, job.rows)}
            files[f"{job.name}.jsonl"] = text_of(_lines(job.rows, shape))
            files[f"{job.name}.yaml"] = yaml_text(_config(job, settings, shape))
        files["dataset_info.json"] = json.dumps(info, indent=2, ensure_ascii=False) + "\n"
        return Written(
            files,
            "llamafactory-cli train {name}.yaml",
            "`dataset:` (and `dataset_dir:`, or copy the entry into your own dataset_info.json)",
            _notes(jobs, settings),
        )


def _shape(rows: Sequence[Example]) -> str:
    """Return the rows' own format where the trainer reads it, else `chat`: rewrite as messages."""
    kind = native(rows)
    if kind == "prompt_completion":
        text = all(isinstance(json.loads(row.raw)["prompt"], str) for row in rows)
        return kind if columns(rows) and text else "chat"
    if kind == "sharegpt":
        speakers = {
            turn.get("from") for row in rows for turn in json.loads(row.raw)["conversations"]
        }
        return kind if speakers <= _SPEAKERS else "chat"
    return kind if kind in ("alpaca", "messages", "plain_text") else "chat"


def _lines(rows: Sequence[Example], shape: str) -> list[str]:
    if shape == "chat":
        return [line(conversation(row)) for row in rows]
    return as_they_came(rows)


def _entry(shape: str, rows: Sequence[Example]) -> dict[str, Any]:
    """Return the entry of a file in dataset_info.json, which may name existing columns only."""
    if shape == "alpaca":
        known = columns(rows) | {"instruction", "output"}
        return {"columns": {key: name for key, name in _ALPACA.items() if name in known}}
    if shape == "prompt_completion":
        return {"columns": {"prompt": "prompt", "response": "completion"}}
    if shape == "plain_text":
        return {"columns": {"prompt": "text"}}
    if shape == "sharegpt":
        system = {"system": "system"} if "system" in columns(rows) else {}
        return {"formatting": "sharegpt", "columns": {"messages": "conversations", **system}}
    return {"formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": _TAGS}


def _config(job: Job, settings: TrainSettings, shape: str) -> dict[str, Any]:
    config = settings.config
    target = ",".join(config.lora_target_modules or ["all"])
    lora = {
        "finetuning_type": "lora",
        "lora_rank": config.lora_r,
        "lora_alpha": round(config.lora_alpha),
        "lora_dropout": config.lora_dropout,
        "lora_target": target,
    }
    return {
        "dataset": job.name,
        "dataset_dir": ".",
        "model_name_or_path": settings.strong,
        "output_dir": f"out/{job.name}",
        "stage": "pt" if shape == "plain_text" else "sft",
        "do_train": True,
        **(lora if settings.peft else {"finetuning_type": "full"}),
        "max_steps": settings.steps,
        "per_device_train_batch_size": config.per_device_train_batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": SCHEDULES[config.lr_scheduler_type],
        "warmup_steps": settings.warmup_steps,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "cutoff_len": config.max_length,
        "packing": False,
        "disable_shuffling": True,  # the file is in the order of training
        "seed": job.draw,
        "data_seed": job.draw,
        **optional("bf16", config.bf16),
        "save_strategy": "no",  # the model is saved at the end
        "report_to": "none",
    }


def _notes(jobs: Sequence[Job], settings: TrainSettings) -> list[str]:
    notes = ["`template:` is left out: LLaMA-Factory then takes the tokenizer's own"]
    if not settings.chats:
        notes = [
            "the tokenizer has no chat template: name one with `template:`, since LLaMA-Factory "
            "otherwise puts the answer directly after the question, and evaluate with the same "
            "template"
        ]
    skipped = sum(not _alternates(row) for job in jobs for row in job.rows)
    if skipped:
        notes.append(
            f"{skipped:,} rows do not alternate between question and answer: LLaMA-Factory skips "
            "them"
        )
    return notes


def _alternates(row: Example) -> bool:
    roles = [turn.role for turn in row.turns if turn.role != "system"]
    pairs = zip(roles, (_QUESTION, _ANSWER) * len(roles), strict=False)
    return len(roles) % 2 == 0 and all(role in allowed for role, allowed in pairs)
