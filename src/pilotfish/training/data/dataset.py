"""Build what a training learns: the rows of an arm with teacher, source and weight."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pilotfish.config import TrainConfig
from pilotfish.errors import DataError, UsageError
from pilotfish.losses import Loss
from pilotfish.models import Loaded
from pilotfish.records import Example
from pilotfish.training.data.collate import supervised
from pilotfish.training.data.row_weights import RowInfo, normalized, with_sources
from pilotfish.training.data.rows import TokenizedRows, encode_rows, with_teacher_outputs
from pilotfish.training.data.token_selection import selected_tokens
from pilotfish.training.setup import Student
from pilotfish.training.teacher.outputs import TeacherOutputs, captured_mass, check_stored


@dataclass(frozen=True)
class TrainingSet:
    """Rows to learn, prompts to learn before them, and facts about both."""

    rows: TokenizedRows
    prompts: TokenizedRows | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    read: int = 0  # input tokens that student and reference have each read to build it


def training_set_of(
    examples: Sequence[Example],
    student: Student,
    loss: Loss,
    config: TrainConfig,
    *,
    row_info: RowInfo | None = None,
    teacher: Loaded | None = None,
    teacher_outputs: Mapping[str, TeacherOutputs] | None = None,
) -> TrainingSet:
    """Tokenize rows, attach what is known of them, select tokens and weigh them.

    Args:
        examples: The rows of an arm.
        student: The model that will learn.
        loss: Its `needs` decide what is attached.
        config: Lengths, normalization, token selection, prompt warm-up.
        row_info: Source and weight of each example.
        teacher: The reference of token selection.
        teacher_outputs: Outputs of a stored teacher, by row name.

    Raises:
        DataError, UsageError: The parts do not fit together, or no row can be learnt.
    """
    rows = encode_rows(examples, student.loaded, window(config, student.loaded))
    rows = with_sources(
        _with_stored_teacher(rows, loss, config, teacher_outputs), examples, row_info
    )
    if "trusted" in loss.needs and rows.trusted is None:
        rows = replace(rows, trusted=[False] * len(rows))
    facts: dict[str, Any] = {}
    read = sum(rows.lengths) if config.focus else 0
    if config.focus:
        rows, facts = selected_tokens(rows, student, teacher, config.focus)
    rows = normalized(rows, config.normalize)
    if rows.weights is not None:
        facts["normalize"] = config.normalize
    if rows.teacher_outputs is not None:
        facts["stored_teacher"] = rows.teacher_outputs[0].kind
        if (mass := captured_mass(rows.teacher_outputs)) is not None:
            facts["captured_mass"] = mass
    if warnings := _without_effect(rows, loss, config):
        facts["warnings"] = warnings
    return TrainingSet(rows, prompts_of(rows) if config.warmup_lm else None, facts, read)


def window(config: TrainConfig, loaded: Loaded) -> int:
    """Return the most tokens of a row: the config's limit, clamped to the model's window."""
    return min(config.max_length, loaded.window or config.max_length)


def prompts_of(rows: TokenizedRows) -> TokenizedRows:
    """Return the same rows with the prompt tokens supervised and the responses not.

    Raises DataError where no row has a prompt.
    """
    turned = [
        replace(row, target=np.logical_not(row.target).astype(row.target.dtype))
        for row in rows.encoded
    ]
    usable = [place for place, row in enumerate(turned) if supervised(row)]
    if not usable:
        raise DataError(
            "train.warmup_lm reads prompts, and no row has one",
            hint="pass --set train.warmup_lm=0",
        )
    prompts = TokenizedRows(turned, rows.names, [supervised(row) for row in turned])
    return prompts.take(usable)


def _with_stored_teacher(
    rows: TokenizedRows,
    loss: Loss,
    config: TrainConfig,
    stored: Mapping[str, TeacherOutputs] | None,
) -> TokenizedRows:
    """Attach the stored teacher if there is one and the loss learns from a teacher.

    Raises UsageError where the loss cannot learn from it, or where the config requires a stored
    teacher and there is none.
    """
    if "teacher" not in loss.needs:
        return rows
    if stored is None:
        if config.teacher == "cached":
            raise UsageError(
                "train.teacher is 'cached', but nothing was stored for this training",
                hint="pass --set train.teacher=online",
            )
        return rows
    check_stored(loss, config.loss, next(iter(stored.values())).kind if stored else "topk")
    return with_teacher_outputs(rows, stored)


def _without_effect(rows: TokenizedRows, loss: Loss, config: TrainConfig) -> list[str]:
    """Return warnings on settings that have no effect, or another one, on these rows."""
    found = []
    if "trusted" in loss.needs and not any(rows.trusted or ()):
        found.append(f"the loss '{config.loss}' treats trusted rows otherwise, and there are none")
    if config.normalize == "rows" and (config.gold_share or config.replay):
        found.append("with train.normalize=rows the shares of sources are shares of rows")
    return found
