"""FLOPs of a training, by the formulas of the ledger, from the tokens that were computed."""

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
    """Return {"flops": ...}; {} if the config of a model does not give its shape.

    Attention is counted at the mean number of positions in view: half a row's length, in an encoder
    all of it.

    Args:
        student: The trained model.
        rows: Their lengths give the positions in view.
        learnt: Input tokens of all steps.
        read: Input tokens that were only read, for evaluation.
        teacher: A model that reads the input tokens of all steps.
        reference: Another model, and the input tokens that it read.
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
    """Return the FLOPs of reading texts once, from their lengths in tokens.

    None if the config of the model does not give its shape.
    """
    try:
        shape = shape_of(loaded)
    except KeyError:
        return None
    tokens = sum(lengths)
    return forward(shape, tokens, context=_in_view(loaded, lengths)) if tokens else 0.0


def shape_of(loaded: Loaded) -> Shape:
    """Return the shape for the formulas; raise KeyError if the config does not give it."""
    config = loaded.model.config.to_dict()
    if not _is_classifier(loaded):
        return Shape.of(config, loaded.parameters)
    # one table of embeddings, and a head of a few classes instead of the vocabulary's
    shape = Shape.of({**config, "tie_word_embeddings": True}, loaded.parameters)
    return replace(shape, vocab=int(loaded.model.config.num_labels))


def _in_view(loaded: Loaded, lengths: Sequence[int]) -> float:
    """Return the positions in view of a token, on average."""
    context = sum(length**2 for length in lengths) / sum(lengths)
    # encoders attend in both directions; causal classifiers call their head `score`
    encoder = _is_classifier(loaded) and not hasattr(loaded.model, "score")
    return context if encoder else context / 2


def _is_classifier(loaded: Loaded) -> bool:
    return type(loaded.model).__name__.endswith("ForSequenceClassification")
