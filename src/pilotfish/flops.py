"""What each stage cost: FLOPs from shapes, and seconds, rows, tokens added up from the event log.

All FLOP counts are for dense decoder-only transformers and count a multiply-add as two operations.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pilotfish.records import Ints

if TYPE_CHECKING:
    from pilotfish.models import Loaded

# Rules of evidence, 4: what it took to arrive at the selection is charged to the selected arm.
SELECTION_STAGES = ("tune", "rehearse", "score", "select")
RESUME = "resume"  # looking at what an earlier command left whole
_WIDTH = ("hidden_size", "n_embd", "d_model", "dim")
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model's cost depends on.

    body: non-embedding parameters. vocab, width: of the LM head. layers: attention layers.
    """

    body: int
    vocab: int
    width: int
    layers: int

    @classmethod
    def of(cls, config: Mapping[str, Any], parameters: int) -> "Shape":
        """From a transformers config as a dict and the count of all parameters (tied ones once).

        Of a config with several parts it is the language model's. Raises KeyError when it names no
        vocabulary, width or depth.
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
    """FLOPs of one token's forward pass: 2N body + 2dV head + 4Lsd attention.

    `context` s: positions attended to. The head and the attention are never dropped: on small
    scorers, our very case, the head alone is up to 1.4 times the body.
    """
    head = 2.0 * shape.width * shape.vocab
    attention = 4.0 * shape.layers * context * shape.width
    return 2.0 * shape.body + head + attention


def forward(shape: Shape, tokens: float, *, context: float = 0.0) -> float:
    """FLOPs of reading `tokens` tokens once, each with `context` positions in view."""
    return tokens * per_token(shape, context)


def training(
    shape: Shape,
    tokens: float,
    *,
    context: float = 0.0,
    lora: bool = False,
    recompute: bool = False,
) -> float:
    """FLOPs of learning from `tokens` tokens (epochs counted): 3 forwards.

    A backward pass is one forward's worth for the inputs and one for the weights; LoRA has no
    gradients of the base weights, so 2 forwards. `recompute`: full activation checkpointing adds 1.
    """
    return forward(shape, tokens, context=context) * ((2 if lora else 3) + (1 if recompute else 0))


def generation(shape: Shape, prompt_tokens: float, new_tokens: float, *, rows: int = 1) -> float:
    """FLOPs of `rows` greedy answers with cached keys: the prompt once, then token by token.

    Token counts are per row; the context of a token is the average over what it can see.
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
    """Share of the strong model's training that a selection must save to pay for itself.

    `passes` of the weak model over the pool against `epochs` of training over the same rows;
    without head and attention this is passes * N_w / (3 * N_s * epochs), with LoRA 2 for 3. Above
    1 the selection cannot pay in FLOPs.
    """
    read = passes * forward(weak, 1.0, context=context)
    return read / (epochs * training(strong, 1.0, context=context, lora=lora))


@dataclass(frozen=True, slots=True)
class Cost:
    """What was spent. None: no event said it; never a 0 that stands for unknown.

    seconds: wall clock. rows: examples handled. tokens: tokens that went through a model.
    flops: as the formulas of this file count them.
    """

    seconds: float | None = None
    rows: float | None = None
    tokens: float | None = None
    flops: float | None = None

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            _sum(self.seconds, other.seconds),
            _sum(self.rows, other.rows),
            _sum(self.tokens, other.tokens),
            _sum(self.flops, other.flops),
        )

    def as_dict(self) -> dict[str, float | None]:
        """The four fields by name."""
        return {
            "seconds": self.seconds,
            "rows": self.rows,
            "tokens": self.tokens,
            "flops": self.flops,
        }


def _sum(a: float | None, b: float | None) -> float | None:
    return b if a is None else a if b is None else a + b


def by_stage(events: Iterable[Mapping[str, Any]]) -> dict[str, Cost]:
    """Stage -> cost, in order of first appearance; lines that are no `cost` events are skipped.

    A stage that was interrupted and taken up again has several events: they add up, because an
    event tells only what its own attempt did.
    """
    table: dict[str, Cost] = {}
    for event in events:
        if event.get("kind") == "cost":
            stage = str(event["stage"])
            table[stage] = table.get(stage, Cost()) + _cost(event)
    return table


def by_name(events: Iterable[Mapping[str, Any]], stage: str) -> dict[str, Cost]:
    """Name -> cost inside one stage: for `train`, each arm and seed."""
    table: dict[str, Cost] = {}
    for event in events:
        if event.get("kind") == "cost" and event["stage"] == stage:
            name = str(event["name"])
            table[name] = table.get(name, Cost()) + _cost(event)
    return table


def _cost(event: Mapping[str, Any]) -> Cost:
    said = {key: event.get(key) for key in ("seconds", "rows", "tokens", "flops")}
    return Cost(**{key: None if value is None else float(value) for key, value in said.items()})


def charged(events: Iterable[Mapping[str, Any]]) -> Cost:
    """What the selected arm is charged beyond its own training: SELECTION_STAGES added up.

    Cached measurements cost nothing again: what was reused left no event.
    """
    table = by_stage(events)
    return sum((table[stage] for stage in SELECTION_STAGES if stage in table), Cost())


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


def charged_flops(
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
