"""Cost of each stage: FLOPs from model shapes; seconds, rows and tokens from the event log.

All FLOP counts are for dense decoder-only transformers and count a multiply-add as two operations.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from pilotfish.records import Ints

if TYPE_CHECKING:
    from pilotfish.models import Loaded

# The cost of arriving at the selection is charged to the selected arm.
SELECTION_STAGES = ("tune", "rehearse", "score", "select")
RESUME = "resume"  # checking what an earlier command left intact
_WIDTH = ("hidden_size", "n_embd", "d_model", "dim")
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers that a model's cost depends on."""

    body: int  # non-embedding parameters
    vocab: int  # rows of the LM head
    width: int  # columns of the LM head
    layers: int  # attention layers

    @classmethod
    def of(cls, config: Mapping[str, Any], parameters: int) -> "Shape":
        """Read the shape from a transformers config and the number of parameters (tied ones once).

        Raises:
            KeyError: The config names no vocabulary, width or depth.
        """
        config = config.get("text_config") or config
        vocab, width = int(config["vocab_size"]), _first(config, _WIDTH)
        tables = 1 if config.get("tie_word_embeddings", True) else 2
        return cls(parameters - tables * vocab * width, vocab, width, _first(config, _LAYERS))


def _first(config: Mapping[str, Any], names: Sequence[str]) -> int:
    for name in names:
        if config.get(name) is not None:
            return int(config[name])
    raise KeyError(f"the model's config has none of {', '.join(names)}")


def per_token(shape: Shape, context: float = 0.0) -> float:
    """Return the FLOPs of one token's forward pass: 2N body + 2dV head + 4Lsd attention.

    Head and attention are always counted: on small scorers the head alone is up to 1.4 times the
    body.

    Args:
        shape: The model's N, d, V and L.
        context: s, positions attended to.
    """
    head = 2.0 * shape.width * shape.vocab
    attention = 4.0 * shape.layers * context * shape.width
    return 2.0 * shape.body + head + attention


def forward(shape: Shape, tokens: float, *, context: float = 0.0) -> float:
    """Return the FLOPs of a forward pass over `tokens` tokens, each attending to `context`."""
    return tokens * per_token(shape, context)


def training(
    shape: Shape,
    tokens: float,
    *,
    context: float = 0.0,
    lora: bool = False,
    recompute: bool = False,
) -> float:
    """Return the FLOPs of training on tokens: 3 forward passes, with LoRA 2.

    A backward pass costs one forward pass for the inputs and one for the weights; LoRA has no
    gradients of the base weights.

    Args:
        shape: The model.
        tokens: Tokens over all epochs.
        context: Positions attended to.
        lora: Train with LoRA.
        recompute: Full activation checkpointing, which adds 1 forward pass.
    """
    return forward(shape, tokens, context=context) * ((2 if lora else 3) + (1 if recompute else 0))


def generation(shape: Shape, prompt_tokens: float, new_tokens: float, *, rows: int = 1) -> float:
    """Return the FLOPs of greedy answers with cached keys: the prompt once, then token by token.

    Args:
        shape: The model.
        prompt_tokens: Tokens of the prompt, per row.
        new_tokens: Tokens of the answer, per row; each attends to the prompt and half of them.
        rows: Number of answers.
    """
    prefill = forward(shape, prompt_tokens, context=prompt_tokens / 2)
    answer = forward(shape, new_tokens, context=prompt_tokens + new_tokens / 2)
    return rows * (prefill + answer)


def break_even(
    weak: Shape,
    strong: Shape,
    *,
    passes: float,
    epochs: float,
    context: float = 0.0,
    lora: bool = False,
) -> float:
    """Return the share of the strong model's training that a selection must save to pay off.

    Without head and attention this is passes * N_w / (3 * N_s * epochs), with LoRA 2 for 3. Above
    1 the selection cannot pay off in FLOPs.

    Args:
        weak: The model that scores.
        strong: The model that is trained.
        passes: Forward passes of the weak model over the pool.
        epochs: Epochs of training over the same rows.
        context: Positions attended to.
        lora: Train with LoRA.
    """
    scoring = passes * forward(weak, 1.0, context=context)
    return scoring / (epochs * training(strong, 1.0, context=context, lora=lora))


@dataclass(frozen=True, slots=True)
class Cost:
    """An amount spent. None means unknown (no event has it), which is never written as 0."""

    seconds: float | None = None  # wall clock
    rows: float | None = None  # examples handled
    tokens: float | None = None  # tokens that went through a model
    flops: float | None = None  # as the formulas of this file count them

    def __add__(self, other: "Cost") -> "Cost":
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Cost(*(b if a is None else a if b is None else a + b for a, b in pairs))

    def as_dict(self) -> dict[str, float | None]:
        """Return the four fields by name."""
        return asdict(self)


def by_stage(events: Iterable[Mapping[str, Any]]) -> dict[str, Cost]:
    """Return stage -> cost, in order of first appearance.

    A stage that was interrupted and resumed has several events. They add up, because each records
    only its own attempt. Events of other kinds than `cost` are skipped.
    """
    return _add_up((str(event["stage"]), event) for event in _cost_events(events))


def by_name(events: Iterable[Mapping[str, Any]], stage: str) -> dict[str, Cost]:
    """Return name -> cost within one stage: for `train`, each arm and seed."""
    found = (event for event in _cost_events(events) if event["stage"] == stage)
    return _add_up((str(event["name"]), event) for event in found)


def _cost_events(events: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    return (event for event in events if event.get("kind") == "cost")


def _add_up(named: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Cost]:
    table: dict[str, Cost] = {}
    for name, event in named:
        values = (event.get(each.name) for each in fields(Cost))
        cost = Cost(*(None if value is None else float(value) for value in values))
        table[name] = table.get(name, Cost()) + cost
    return table


def charged(events: Iterable[Mapping[str, Any]]) -> Cost:
    """Return what the selected arm costs beyond its own training: SELECTION_STAGES added up.

    Reused measurements cost nothing: they leave no event.
    """
    table = by_stage(events)
    return sum((table[stage] for stage in SELECTION_STAGES if stage in table), Cost())


def known(**facts: float | None) -> dict[str, float]:
    """Return the facts that are not None: an unknown fact is never a zero."""
    return {key: value for key, value in facts.items() if value is not None}


def reading_flops(loaded: "Loaded", lengths: Ints) -> float | None:
    """Return the FLOPs of one forward pass over rows of `lengths` [n] tokens; None if unknown."""
    shape, tokens = _shape(loaded), float(lengths.sum())
    if shape is None or not tokens:
        return None if shape is None else 0.0
    # a token attends to half its row on average, and long rows have more tokens
    context = float(np.square(lengths.astype(np.float64)).sum()) / (2 * tokens)
    return forward(shape, tokens, context=context)


def charged_flops(
    loaded: "Loaded", passes: Mapping[int, int], lengths_of: Callable[[int], Ints]
) -> dict[str, float]:
    """Return the tokens and FLOPs of scoring shards in this attempt.

    Args:
        loaded: The model.
        passes: Shard -> forward passes over its rows. 0 for a shard that was intact: its cost is
            in earlier events, or in those of other ranks.
        lengths_of: Shard -> tokens of its rows, [n].
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
    """Return the FLOPs of greedy answers; None where the shape is unknown.

    Args:
        loaded: The model.
        rows: Number of answers.
        prompt: Tokens of a prompt.
        room: Tokens of an answer, at most.
    """
    shape = _shape(loaded)
    return None if shape is None else generation(shape, prompt, room, rows=rows)


def training_cost(facts: Mapping[str, Any]) -> dict[str, float]:
    """Return the tokens and FLOPs of a training run, from the facts it returned."""
    return known(tokens=facts["input_tokens_seen"], flops=facts.get("flops"))


def _shape(loaded: "Loaded") -> Shape | None:
    try:
        return Shape.of(loaded.model.config.to_dict(), loaded.parameters)
    except KeyError:
        return None
