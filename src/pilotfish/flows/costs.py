"""FLOPs of what a flow just did, from the shapes of the models it did it with."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pilotfish.ledger import Shape, forward, generation
from pilotfish.records import Ints

if TYPE_CHECKING:
    from pilotfish.models import Loaded


def known(**facts: float | None) -> dict[str, float]:
    """The facts that are known: an absent one is never a zero."""
    return {key: value for key, value in facts.items() if value is not None}


def reading_flops(loaded: "Loaded", lengths: Ints) -> float | None:
    """FLOPs of reading rows of `lengths` [n] tokens once; None where the shape is unknown."""
    shape, tokens = _shape(loaded), float(lengths.sum())
    if shape is None or not tokens:
        return None if shape is None else 0.0
    # half a row is in view on average, and long rows have the more tokens
    context = float(np.square(lengths.astype(np.float64)).sum()) / (2 * tokens)
    return forward(shape, tokens, context=context)


def paid_for(
    loaded: "Loaded", passes: Mapping[int, int], lengths_of: Callable[[int], Ints]
) -> dict[str, float]:
    """Tokens and FLOPs of reading shards now; passes: shard -> times its rows were read.

    What was intact is read 0 times: it left its cost in earlier events, or in those of other ranks.
    """
    read = [(times, lengths_of(shard)) for shard, times in passes.items() if times]
    flops = [reading_flops(loaded, lengths) for _, lengths in read]
    spent = [None if f is None else times * f for (times, _), f in zip(read, flops, strict=True)]
    known_all = [f for f in spent if f is not None]
    return known(
        tokens=float(sum(times * int(lengths.sum()) for times, lengths in read)),
        flops=sum(known_all) if len(known_all) == len(spent) else None,
    )


def answering_flops(loaded: "Loaded", rows: int, prompt: float, room: float) -> float | None:
    """FLOPs of `rows` greedy answers of at most `room` tokens to prompts of `prompt` tokens."""
    shape = _shape(loaded)
    return None if shape is None else generation(shape, prompt, room, rows=rows)


def training_cost(facts: Mapping[str, Any]) -> dict[str, float]:
    """Tokens and FLOPs of a training run, from the facts it returned."""
    return known(tokens=facts["input_tokens_seen"], flops=facts.get("flops"))


def _shape(loaded: "Loaded") -> Shape | None:
    try:
        return Shape.of(loaded.model.config.to_dict(), loaded.parameters)
    except KeyError:
        return None
