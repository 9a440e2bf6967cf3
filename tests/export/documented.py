"""The other trainers' formats as their documentation has them, read back as conversations.

LLaMA-Factory: data/README.md; axolotl: docs/dataset-formats; TRL: docs/source/dataset_formats.
"""

import json
from typing import Any

import yaml

Turns = list[tuple[str, str]]

LF_COLUMNS = {
    "alpaca": {"prompt", "query", "response", "history", "system", "tools"},
    "sharegpt": {"messages", "system", "tools"},
}
LF_TAGS = {
    "role_tag", "content_tag", "user_tag", "assistant_tag", "observation_tag", "function_tag",
    "system_tag",
}  # fmt: skip
AXOLOTL = {
    "path", "ds_type", "type", "field", "field_messages", "message_property_mappings", "roles",
    "roles_to_train", "train_on_eos",
}  # fmt: skip

# The settings we write, each found in the trainers' references of their configs.
LF_CONFIG = {
    "dataset", "dataset_dir", "model_name_or_path", "output_dir", "stage", "do_train",
    "finetuning_type", "lora_rank", "lora_alpha", "lora_dropout", "lora_target", "max_steps",
    "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate",
    "lr_scheduler_type", "warmup_steps", "weight_decay", "max_grad_norm", "cutoff_len", "packing",
    "disable_shuffling", "seed", "data_seed", "bf16", "save_strategy", "report_to",
}  # fmt: skip
AXOLOTL_CONFIG = {
    "datasets", "base_model", "output_dir", "dataset_prepared_path", "val_set_size",
    "shuffle_merged_datasets", "curriculum_sampling", "sequence_len", "excess_length_strategy",
    "sample_packing", "train_on_inputs", "adapter", "lora_r", "lora_alpha", "lora_dropout",
    "lora_target_modules", "lora_target_linear", "max_steps", "num_epochs", "micro_batch_size",
    "gradient_accumulation_steps", "optimizer", "learning_rate", "lr_scheduler", "warmup_steps",
    "weight_decay", "max_grad_norm", "seed", "bf16", "save_strategy",
}  # fmt: skip


def records(files: dict[str, str], name: str) -> list[dict[str, Any]]:
    assert files[name].endswith("\n")
    return [json.loads(line) for line in files[name].split("\n")[:-1]]


def llamafactory(files: dict[str, str], job: str) -> list[Turns]:
    """What LLaMA-Factory would learn from, by its README's rules."""
    config = yaml.safe_load(files[f"{job}.yaml"])
    assert {*config} <= LF_CONFIG
    entry = json.loads(files["dataset_info.json"])[config["dataset"]]
    assert {*entry} <= {"file_name", "formatting", "columns", "tags"}
    formatting, columns = entry.get("formatting", "alpaca"), entry["columns"]
    assert {*columns} <= LF_COLUMNS[formatting]
    rows = records(files, entry["file_name"])
    if config["stage"] == "pt":
        return [[("text", row[columns["prompt"]])] for row in rows]
    read = _lf_alpaca if formatting == "alpaca" else _lf_sharegpt
    return [read(row, columns, entry.get("tags", {})) for row in rows]


def _lf_alpaca(row: dict[str, Any], columns: dict[str, str], tags: dict[str, str]) -> Turns:
    def value_of(key: str) -> str:
        return str(row.get(columns[key]) or "") if key in columns else ""

    turns: Turns = [("system", value_of("system"))] if value_of("system") else []
    for question, answer in row.get(columns.get("history", "")) or []:
        turns += [("user", question), ("assistant", answer)]
    query = "\n".join(part for part in (value_of("prompt"), value_of("query")) if part)
    return [*turns, ("user", query), ("assistant", value_of("response"))]


def _lf_sharegpt(row: dict[str, Any], columns: dict[str, str], tags: dict[str, str]) -> Turns:
    assert {*tags} <= LF_TAGS
    role, content = tags.get("role_tag", "from"), tags.get("content_tag", "value")
    names = {
        tags.get("user_tag", "human"): "user",
        tags.get("assistant_tag", "gpt"): "assistant",
        tags.get("observation_tag", "observation"): "tool",
        tags.get("function_tag", "function_call"): "assistant",
        tags.get("system_tag", "system"): "system",
    }
    turns = [(names[turn[role]], turn[content]) for turn in row[columns["messages"]]]
    if row.get(columns.get("system", "")):
        turns = [("system", row[columns["system"]]), *turns]
    roles = [who for who, _ in turns if who != "system"]
    assert all(who in ("user", "tool") for who in roles[::2]), "odd places ask"
    assert all(who == "assistant" for who in roles[1::2]) and len(roles) % 2 == 0
    return turns


def axolotl(files: dict[str, str], job: str) -> list[Turns]:
    """What axolotl would learn from, by its pages on dataset formats."""
    config = yaml.safe_load(files[f"{job}.yaml"])
    assert {*config} <= AXOLOTL_CONFIG
    (entry,) = config["datasets"]
    assert {*entry} <= AXOLOTL and entry["ds_type"] == "json"
    rows = records(files, entry["path"])
    kind = entry["type"]
    if kind == "alpaca":
        return [_alpaca(row) for row in rows]
    if kind == "completion":
        return [[("text", row[entry["field"]])] for row in rows]
    if kind == "input_output":
        return [_segments(row) for row in rows]
    assert kind == "chat_template"
    keys, roles = entry["message_property_mappings"], entry.get("roles", {})
    known = {alias: role for role, aliases in roles.items() for alias in aliases}
    return [
        [
            (known.get(turn[keys["role"]], turn[keys["role"]]), turn[keys["content"]])
            for turn in row[entry["field_messages"]]
        ]
        for row in rows
    ]


def _alpaca(row: dict[str, Any]) -> Turns:
    query = "\n".join(part for part in (row["instruction"], row.get("input")) if part)
    return [("user", query), ("assistant", row["output"])]


def _segments(row: dict[str, Any]) -> Turns:
    """Learnt and unlearnt pieces of text."""
    assert all({*part} == {"label", "text"} for part in row["segments"])
    return [("learnt" if part["label"] else "shown", part["text"]) for part in row["segments"]]


def trl(files: dict[str, str], job: str) -> list[Turns]:
    """What TRL would learn from, by its dataset types."""
    config = yaml.safe_load(files[f"{job}.yaml"])
    (entry,) = config["datasets"]
    assert entry["path"] == "json"
    rows = records(files, entry["data_files"])
    found = []
    for row in rows:
        if "messages" in row:
            assert config["assistant_only_loss"]
            found.append(_messages(row["messages"]))
        elif "text" in row:
            found.append([("text", row["text"])])
        elif isinstance(row["prompt"], str):
            assert {*row} == {"prompt", "completion"} and config["completion_only_loss"]
            found.append([("shown", row["prompt"]), ("learnt", row["completion"])])
        else:
            assert {*row} == {"prompt", "completion"} and config["completion_only_loss"]
            found.append(_messages(row["prompt"] + row["completion"]))
    return found


def _messages(turns: list[dict[str, str]]) -> Turns:
    assert all({*turn} == {"role", "content"} for turn in turns)
    return [(turn["role"], turn["content"]) for turn in turns]
