"""FLOPs of what a flow just did, from the shapes of the models it did it with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotfish.ledger import Shape, forward, generation, training

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


def training_cost(folder: Path, facts: Mapping[str, Any]) -> dict[str, float]:
    """Tokens and FLOPs of a training run, from the facts it returned and the config it wrote."""
    tokens = float(facts["input_tokens_seen"])
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    shape = _shape(config, int(facts["parameters"]))
    flops = None if shape is None else training(shape, tokens, lora=bool(facts["peft"]))
    return known(tokens=tokens, flops=flops)


def _shape(config: Mapping[str, Any], parameters: int) -> Shape | None:
    try:
        return Shape.of(config.get("text_config") or config, parameters)
    except KeyError:
        return None
