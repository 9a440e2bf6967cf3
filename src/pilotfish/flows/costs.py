"""FLOPs of what a flow just did, from the shapes of the models it did it with."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilotfish.ledger import Shape, forward, generation

if TYPE_CHECKING:
    from pilotfish.models import Loaded


def known(**facts: float | None) -> dict[str, float]:
    """The facts that are known: an absent one is never a zero."""
    return {key: value for key, value in facts.items() if value is not None}


def reading_flops(loaded: "Loaded", tokens: float) -> float | None:
    """FLOPs of one forward pass over `tokens` tokens; None where the shape is unknown."""
    shape = _shape(loaded.model.config.to_dict(), loaded.parameters)
    return None if shape is None else forward(shape, tokens)


def answering_flops(loaded: "Loaded", rows: int, prompt: float, room: float) -> float | None:
    """FLOPs of `rows` greedy answers of at most `room` tokens to prompts of `prompt` tokens."""
    shape = _shape(loaded.model.config.to_dict(), loaded.parameters)
    return None if shape is None else generation(shape, prompt, room, rows=rows)


def training_cost(facts: Mapping[str, Any]) -> dict[str, float]:
    """Tokens and FLOPs of a training run, from the facts it returned."""
    return known(tokens=facts["input_tokens_seen"], flops=facts.get("flops"))


def _shape(config: Mapping[str, Any], parameters: int) -> Shape | None:
    try:
        return Shape.of(config.get("text_config") or config, parameters)
    except KeyError:
        return None
