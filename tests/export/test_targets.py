"""Every shape of data, written for every trainer, read back by the trainers' documented rules."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilotfish.config import TrainConfig
from pilotfish.errors import DataError
from pilotfish.export import TARGETS, Job, TrainSettings, Written
from pilotfish.records import Example
from pilotfish.tokenization.render import turns_of
from tests.export import documented
from tests.reading import read_rows

Records = list[dict[str, Any]]

ALPACA: Records = [
    {"instruction": "Say a", "input": "", "output": "a\n", "tag": 1},
    {"instruction": "Say b", "input": "loud", "output": "B"},
]
SHAPES: dict[str, Records] = {
    "alpaca": ALPACA,
    "alpaca with history": [
        {**ALPACA[0], "system": "Be brief.", "history": [["Hi", "Hello"]]}, {**ALPACA[1]},
    ],
    "sharegpt": [
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "r"}]},
        {"system": "Be kind.",
         "conversations": [{"from": "human", "value": "q2"}, {"from": "gpt", "value": "r2"}]},
    ],
    "sharegpt of others": [
        {"conversations": [{"from": "user", "value": "q"}, {"from": "model", "value": "r"}]}
    ],
    "messages": [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]}
    ],
    "talk": [
        {"messages": [
            {"role": "system", "content": "s"}, {"role": "user", "content": "q"},
            {"role": "assistant", "content": "r"}, {"role": "user", "content": "and?"},
            {"role": "assistant", "content": "so"},
        ]},
    ],
    "prompt and completion": [{"prompt": "q", "completion": "r"}],
    "lists of messages": [
        {"prompt": [{"role": "user", "content": "q"}],
         "completion": [{"role": "assistant", "content": "r"}]},
    ],
    "text and label": [{"text": "good", "label": 1}],
    "plain text": [{"text": "once"}, {"text": "upon a \u2028 time"}],
}  # fmt: skip
# Shapes that a trainer reads as they are: its file holds the rows byte for byte.
AS_THEY_CAME = {
    "jsonl": {*SHAPES},
    "llamafactory": {*SHAPES} - {"sharegpt of others", "lists of messages", "text and label"},
    # "sharegpt" here has a system column, which axolotl would not read
    "axolotl": {"alpaca", "sharegpt of others", "messages", "talk", "plain text"},
    "trl": {"talk", "plain text", "lists of messages"},
}
READERS = {
    "llamafactory": documented.llamafactory, "axolotl": documented.axolotl, "trl": documented.trl,
}  # fmt: skip


def rows_of(folder: Path, shape: str) -> list[Example]:
    path = folder / "data.jsonl"
    lines = [json.dumps(record, ensure_ascii=False) for record in SHAPES[shape]]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return list(read_rows(str(path)).examples)


def how(templated: bool | None = True, **train: Any) -> TrainSettings:
    config = TrainConfig(**{"max_length": 2048, **train})
    return TrainSettings(config, "org/strong", 12, 1, 2e-4, True, templated, "</s>")


def write(
    target: str, rows: Sequence[Example], *, templated: bool | None = True, **train: Any
) -> Written:
    return TARGETS[target].write([Job("selected", 0, 7, rows)], how(templated, **train))


JOB = "selected-seed-0"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("target", READERS)
def test_what_a_trainer_reads_is_what_the_rows_say(target: str, shape: str, tmp_path: Path) -> None:
    rows = rows_of(tmp_path, shape)
    found = READERS[target](write(target, rows).files, JOB)
    for row, turns in zip(rows, found, strict=True):
        expected = [(turn.role, turn.content) for turn in turns_of(row)]
        assert turns == (expected or [("text", row.text)])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("target", TARGETS)
def test_rows_keep_their_bytes_wherever_the_trainer_reads_their_format(
    target: str, shape: str, tmp_path: Path
) -> None:
    rows = rows_of(tmp_path, shape)
    came = (tmp_path / "data.jsonl").read_bytes()
    same = write(target, rows).files[f"{JOB}.jsonl"].encode() == came
    assert same == (shape in AS_THEY_CAME[target])


@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "plain text"])
@pytest.mark.parametrize("target", ["trl", "axolotl"])
def test_without_a_template_rows_are_written_as_pilotfish_writes_them(
    target: str, shape: str, tmp_path: Path
) -> None:
    rows = rows_of(tmp_path, shape)
    found = READERS[target](write(target, rows, templated=False).files, JOB)
    if (target, shape) == ("axolotl", "alpaca"):
        return  # its own prompt, whatever the tokenizer
    for row, pieces in zip(rows, found, strict=True):
        prompt, answer = pieces[0], pieces[-1]
        assert prompt[0] == "shown" and prompt[1].endswith("\n\n")
        assert answer == ("learnt", row.response + ("</s>" if target == "axolotl" else ""))
        learnt = sum(kind == "learnt" for kind, _ in pieces)
        turns = sum(turn.role == "assistant" for turn in turns_of(row))
        assert learnt == (turns if target == "axolotl" else 1)


def test_all_trainers_get_the_same_settings() -> None:
    train = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "lora_r": 8}
    row = Example("a", "s", 0, text="x", raw='{"text": "x"}')
    written = {name: yaml.safe_load(write(name, [row], **train).files[f"{JOB}.yaml"])
            for name in READERS}  # fmt: skip
    names = {
        "trl": ("max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
                "learning_rate", "warmup_steps", "max_length", "lora_r", "seed"),
        "llamafactory": ("max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
                         "learning_rate", "warmup_steps", "cutoff_len", "lora_rank", "seed"),
        "axolotl": ("max_steps", "micro_batch_size", "gradient_accumulation_steps",
                    "learning_rate", "warmup_steps", "sequence_len", "lora_r", "seed"),
    }  # fmt: skip
    for target, settings in written.items():
        assert [settings[name] for name in names[target]] == [12, 4, 2, 2e-4, 1, 2048, 8, 7]
    # each is written to learn the rows in the order of the file
    assert written["trl"]["train_sampling_strategy"] == "sequential"
    assert (
        written["llamafactory"]["disable_shuffling"] and written["axolotl"]["curriculum_sampling"]
    )
    assert written["axolotl"]["num_epochs"] * 1 >= 12 * 8


@pytest.mark.parametrize("target", READERS)
def test_full_fine_tuning_names_no_adapter(target: str) -> None:
    row = Example("a", "s", 0, text="x", raw='{"text": "x"}')
    plain = TrainSettings(TrainConfig(), "m", 1, 0, 1e-4, False)
    written = TARGETS[target].write([Job("full", 1, 1001, [row])], plain).files["full-seed-1.yaml"]
    settings = yaml.safe_load(written)
    assert not settings.get("use_peft") and "adapter" not in settings and "lora_r" not in settings
    assert settings.get("finetuning_type", "full") == "full"


def test_rows_of_mapped_columns_are_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"instruction": "unused", "output": "no", "q": "really", "a": "yes"}\n')
    mapping = {"prompt": "q", "completion": "a"}
    rows = list(read_rows(str(path), mapping=mapping).examples)
    for target, read in READERS.items():
        assert read(write(target, rows).files, JOB) == [[("user", "really"), ("assistant", "yes")]]


def test_text_among_questions_is_refused_in_words(tmp_path: Path) -> None:
    rows = [*rows_of(tmp_path, "plain text"), *rows_of(tmp_path, "prompt and completion")]
    for target in READERS:
        with pytest.raises(DataError, match="is plain text, and other rows of the same arm"):
            write(target, rows)


def test_what_a_trainer_does_otherwise_is_noted(tmp_path: Path) -> None:
    talk, alpaca = rows_of(tmp_path, "talk"), rows_of(tmp_path, "alpaca")
    (several,) = write("trl", talk, templated=False).notes
    assert several.startswith("1 rows hold several answers")
    assert "Alpaca's own prompt" in write("axolotl", alpaca).notes[0]
    assert "no chat template" in write("llamafactory", alpaca, templated=False).notes[0]
    odd = [Example("o", "s", 0, turns=talk[0].turns[:2], raw="{}")]
    with pytest.raises(DataError, match="ends with a question"):
        write("trl", odd)
