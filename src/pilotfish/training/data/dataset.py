"""What is learnt: the rows of an arm with teacher, source and weight, as settings and loss ask."""

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
    """Rows to learn, prompts to read before them, and what is to be said about both."""

    rows: TokenizedRows
    prompts: TokenizedRows | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    read: int = 0  # input tokens that student and reference read beforehand, each


def training_set_of(
    examples: Sequence[Example],
    student: Student,
    loss: Loss,
    config: TrainConfig,
    *,
    known: RowInfo | None = None,
    teacher: Loaded | None = None,
    taught: Mapping[str, TeacherOutputs] | None = None,
) -> TrainingSet:
    """Tokenise, attach what is known, and weigh. DataError or UsageError for what does not fit."""
    rows = encode_rows(examples, student.loaded, window(config, student.loaded))
    rows = with_sources(attached(rows, loss, config, taught), examples, known)
    if "gold" in loss.needs and rows.gold is None:  # nobody vouches for any
        rows = replace(rows, gold=[False] * len(rows))
    facts: dict[str, Any] = {}
    read = sum(rows.lengths) if config.focus else 0
    if config.focus:
        rows, facts = selected_tokens(rows, student, teacher, config.focus)
    rows = normalized(rows, config.normalize)
    warnings = _warnings(rows, loss, config)
    if rows.weights is not None:
        facts["normalize"] = config.normalize
    return TrainingSet(
        rows,
        prompts_of(rows) if config.warmup_lm else None,
        {**facts, **_stored(rows), **({"warnings": warnings} if warnings else {})},
        read,
    )


def window(config: TrainConfig, loaded: Loaded) -> int:
    """Tokens a row may have: the config's limit, clamped to the model's window."""
    return min(config.max_length, loaded.window or config.max_length)


def attached(
    rows: TokenizedRows,
    loss: Loss,
    config: TrainConfig,
    taught: Mapping[str, TeacherOutputs] | None,
) -> TokenizedRows:
    """The rows with the stored teacher that the loss learns from, where one is given.

    UsageError where the loss cannot, and where the config says `cached` and none is there.
    """
    if "teacher" not in loss.needs:
        return rows
    if taught is None:
        if config.teacher == "cached":
            raise UsageError(
                "train.teacher is 'cached', but nothing was stored for this training",
                hint="pass --set train.teacher=online",
            )
        return rows
    check_stored(loss, config.loss, next(iter(taught.values())).kind if taught else "topk")
    return with_teacher_outputs(rows, taught)


def _stored(rows: TokenizedRows) -> dict[str, Any]:
    if rows.taught is None:
        return {}
    mass = captured_mass(rows.taught)
    told = {"stored_teacher": rows.taught[0].kind}
    return told if mass is None else {**told, "captured_mass": mass}


def prompts_of(rows: TokenizedRows) -> TokenizedRows:
    """The same rows with every token supervised that is not to be answered, and no other.

    DataError where no row asks anything.
    """
    asked = [
        replace(row, target=np.logical_not(row.target).astype(row.target.dtype))
        for row in rows.encoded
    ]
    usable = [place for place, row in enumerate(asked) if supervised(row)]
    if not usable:
        raise DataError(
            "train.warmup_lm reads prompts, and no row has one",
            hint="pass --set train.warmup_lm=0",
        )
    everything = TokenizedRows(asked, rows.names, [supervised(row) for row in asked])
    return everything.take(usable)


def _warnings(rows: TokenizedRows, loss: Loss, config: TrainConfig) -> list[str]:
    """What was asked for and has no effect on these rows."""
    found = []
    if "gold" in loss.needs and not any(rows.gold or ()):
        found.append(f"the loss '{config.loss}' treats trusted rows otherwise, and there are none")
    if config.normalize == "rows" and (config.gold_share or config.replay):
        found.append("with train.normalize=rows the shares of sources are shares of rows")
    return found
