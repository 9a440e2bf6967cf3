"""What a training cost in FLOPs, by the ledger's formulas, from the tokens that went through."""

from collections.abc import Sequence
from dataclasses import replace

from pilotfish.flops import Shape, forward, training
from pilotfish.models import Loaded
from pilotfish.training.classifier_module import ClassifierRows
from pilotfish.training.data.rows import TokenizedRows
from pilotfish.training.setup import Student


def flops(
    student: Student,
    rows: TokenizedRows | ClassifierRows,
    *,
    learnt: int,
    read: int = 0,
    teacher: Loaded | None = None,
    reference: tuple[Loaded, int] | None = None,
) -> dict[str, float]:
    """{"flops": ...}; {} where the model's config does not tell its shape.

    learnt: input tokens of all steps, which a teacher reads too. read: input tokens only read, to
    judge by. reference: another model, and what it read once. Attention is counted at the mean
    number of positions in view: half a row's length, in an encoder all of it.
    """
    context = _in_view(student.loaded, rows.lengths)
    try:
        shape = shape_of(student.loaded)
        total = training(shape, learnt, context=context, lora=student.peft)
        total += forward(shape, read, context=context)
        if teacher is not None:
            total += forward(shape_of(teacher), learnt, context=context)
        if reference is not None:
            total += forward(shape_of(reference[0]), reference[1], context=context)
    except KeyError:
        return {}
    return {"flops": total}


def reading(loaded: Loaded, lengths: Sequence[int]) -> float | None:
    """FLOPs of reading texts of so many tokens once; None where the model's shape is unknown."""
    try:
        shape = shape_of(loaded)
    except KeyError:
        return None
    tokens = sum(lengths)
    return forward(shape, tokens, context=_in_view(loaded, lengths)) if tokens else 0.0


def _in_view(loaded: Loaded, lengths: Sequence[int]) -> float:
    context = sum(length**2 for length in lengths) / sum(lengths)
    return context if _sees_all(loaded) else context / 2


def shape_of(loaded: Loaded) -> Shape:
    """The shape the ledger counts with. KeyError where the config does not tell it."""
    config = loaded.model.config.to_dict()
    if not _classifies(loaded):
        return Shape.of(config, loaded.parameters)
    # one table of embeddings, and a head of a few classes in place of the vocabulary's
    shape = Shape.of({**config, "tie_word_embeddings": True}, loaded.parameters)
    return replace(shape, vocab=int(loaded.model.config.num_labels))


def _classifies(loaded: Loaded) -> bool:
    return type(loaded.model).__name__.endswith("ForSequenceClassification")


def _sees_all(loaded: Loaded) -> bool:
    """Encoders look both ways; causal classifiers call their head `score`."""
    return _classifies(loaded) and not hasattr(loaded.model, "score")
