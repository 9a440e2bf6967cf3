"""LLaMA-Factory: data, dataset_info.json, and one config per job for `llamafactory-cli train`."""

import json
from collections.abc import Sequence
from typing import Any

from pilotfish.export.base import SCHEDULES, Job, TrainSettings, Written, given, yaml_text
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
_ASKS, _ANSWERS = ("user", "tool"), ("assistant",)


class LlamaFactory:
    """Its alpaca and sharegpt formats, by data/README.md of that project."""

    name = "llamafactory"

    def write(self, jobs: Sequence[Job], how: TrainSettings) -> Written:
        """<job>.jsonl and <job>.yaml for every job, and dataset_info.json for all."""
        files, info = dict[str, str](), dict[str, Any]()
        shape = _shape([row for job in jobs for row in job.rows])
        for job in jobs:
            info[job.name] = {"file_name": f"{job.name}.jsonl", **_entry(shape, job.rows)}
            files[f"{job.name}.jsonl"] = text_of(_lines(job.rows, shape))
            files[f"{job.name}.yaml"] = yaml_text(_config(job, how, shape))
        files["dataset_info.json"] = json.dumps(info, indent=2, ensure_ascii=False) + "\n"
        return Written(
            files, "llamafactory-cli train {name}.yaml",
            "`dataset:` (and `dataset_dir:`, or copy the entry into your own dataset_info.json)",
            _notes(jobs, how),
        )  # fmt: skip


def _shape(rows: Sequence[Example]) -> str:
    """The rows' own format where the trainer reads it, else `chat`: written anew as messages."""
    kind = native(rows)
    asked = columns(rows) if kind == "prompt_completion" else set()
    if kind == "prompt_completion":
        text = all(isinstance(json.loads(row.raw)["prompt"], str) for row in rows)
        return kind if asked and text else "chat"
    if kind == "sharegpt":
        return kind if all(_plain_tags(row) for row in rows) else "chat"
    return kind if kind in ("alpaca", "messages", "plain_text") else "chat"


def _plain_tags(row: Example) -> bool:
    speakers = {turn.get("from") for turn in json.loads(row.raw)["conversations"]}
    return speakers <= {"human", "gpt", "observation", "function_call", "system"}


def _lines(rows: Sequence[Example], shape: str) -> list[str]:
    if shape == "chat":
        return [line(conversation(row)) for row in rows]
    return as_they_came(rows)


def _entry(shape: str, rows: Sequence[Example]) -> dict[str, Any]:
    """What dataset_info.json says of a file; only columns that are there may be named."""
    if shape == "alpaca":
        told = columns(rows) | {"instruction", "output"}
        return {"columns": {key: name for key, name in _ALPACA.items() if name in told}}
    if shape == "prompt_completion":
        return {"columns": {"prompt": "prompt", "response": "completion"}}
    if shape == "plain_text":
        return {"columns": {"prompt": "text"}}
    if shape == "sharegpt":
        system = {"system": "system"} if "system" in columns(rows) else {}
        return {"formatting": "sharegpt", "columns": {"messages": "conversations", **system}}
    return {"formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": _TAGS}


def _config(job: Job, how: TrainSettings, shape: str) -> dict[str, Any]:
    config = how.config
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
        "model_name_or_path": how.strong,
        "output_dir": f"out/{job.name}",
        "stage": "pt" if shape == "plain_text" else "sft",
        "do_train": True,
        **(lora if how.peft else {"finetuning_type": "full"}),
        "max_steps": how.steps,
        "per_device_train_batch_size": config.per_device_train_batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "learning_rate": how.learning_rate,
        "lr_scheduler_type": SCHEDULES[config.lr_scheduler_type],
        "warmup_steps": how.warmup_steps,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "cutoff_len": config.max_length,
        "packing": False,
        "disable_shuffling": True,  # the file is in the order of training
        "seed": job.draw,
        "data_seed": job.draw,
        **given("bf16", config.bf16),
        "save_strategy": "no",  # the model is saved at the end
        "report_to": "none",
    }


def _notes(jobs: Sequence[Job], how: TrainSettings) -> list[str]:
    notes = ["`template:` is left out: LLaMA-Factory then takes the tokenizer's own"]
    if not how.chats:
        notes = [
            "the tokenizer has no chat template: name one with `template:`, since LLaMA-Factory "
            "else puts the answer right behind the question, and ask in its words when you judge"
        ]
    skipped = sum(not _alternates(row) for job in jobs for row in job.rows)
    if skipped:
        notes.append(
            f"{skipped:,} rows do not go from question to answer in turn: LLaMA-Factory skips them"
        )
    return notes


def _alternates(row: Example) -> bool:
    said = [turn.role for turn in row.turns if turn.role != "system"]
    pairs = zip(said, (_ASKS, _ANSWERS) * len(said), strict=False)
    return len(said) % 2 == 0 and all(role in allowed for role, allowed in pairs)
