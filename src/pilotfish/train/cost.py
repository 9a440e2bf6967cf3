"""What a training cost in FLOPs, by the ledger's formulas, from the tokens that went through."""

from pilotfish.ledger import Shape, forward, training
from pilotfish.models import Loaded
from pilotfish.train.rows import Rows
from pilotfish.train.setup import Student


def flops(
    student: Student, rows: Rows, *, learnt: int, read: int = 0, teacher: Loaded | None = None
) -> dict[str, float]:
    """{"flops": ...}; {} where the model's config does not tell its shape.

    learnt: input tokens of all steps, which a teacher reads too. read: input tokens only read, to
    judge by. Attention is counted at the mean number of positions in view, half a row's length.
    """
    context = sum(length**2 for length in rows.lengths) / (2 * sum(rows.lengths))
    try:
        shape = shape_of(student.loaded)
        total = training(shape, learnt, context=context, lora=student.peft)
        total += forward(shape, read, context=context)
        if teacher is not None:
            total += forward(shape_of(teacher), learnt, context=context)
    except KeyError:
        return {}
    return {"flops": total}


def shape_of(loaded: Loaded) -> Shape:
    """The shape the ledger counts with. KeyError where the config does not tell it."""
    return Shape.of(loaded.model.config.to_dict(), loaded.parameters)
