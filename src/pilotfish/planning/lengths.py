"""How long the rows are to each model: what a plan counts with instead of running anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.config import Recipe, TrainConfig
from pilotfish.config.scoring import DEFAULT_MAX_LENGTH
from pilotfish.flops import Shape
from pilotfish.planning.data import Holding
from pilotfish.records import Example, Ints, Need

MOST = 2000  # rows cut into tokens: a shard, so that rows read alike are counted once as they will


@dataclass(frozen=True)
class Model:
    """What can be known of a model from its config and tokenizer alone."""

    name: str
    parameters: int
    shape: Shape | None  # None where the config does not tell
    window: int | None
    tokenizer: Any

    @classmethod
    def of(cls, name: str) -> "Model":
        """UsageError where there is none, or its tokenizer is missing."""
        from pilotfish.models import config_of, count_parameters, load_tokenizer, window_of

        config = config_of(name)
        parameters = count_parameters(name)
        try:
            shape = Shape.of(config.to_dict(), parameters)
        except KeyError:
            shape = None
        return cls(name, parameters, shape, window_of(config), load_tokenizer(name))


@dataclass(frozen=True)
class Lengths:
    """Rows at hand, and their lengths [m] in tokens; all cut as a run would cut them."""

    rows: Sequence[Example]
    weak: Ints  # prompt and response
    response: Ints  # of the weak model
    passes: tuple[Ints, ...]  # per forward pass, the distinct texts it reads: at most m each
    strong: Ints  # as it is trained on; 0 where nothing can be learnt

    @property
    def mean(self) -> float:
        """Tokens of a pool row to the strong model."""
        return float(self.strong.mean()) if len(self.strong) else 0.0


def lengths_of(
    holding: Holding,
    recipe: Recipe,
    models: tuple[Model, Model],
    needs: Sequence[Need],
    most: int = MOST,
) -> Lengths:
    """Cut up to `most` rows, evenly from the pool, into tokens of (weak, strong)."""
    from pilotfish.tokenization import clamp_max_length, encode_needs

    weak, strong = models
    places = np.unique(np.linspace(0, len(holding.pool) - 1, most).round().astype(np.int64))
    rows = holding.pool.take(places)
    limit = clamp_max_length(recipe.max_length or DEFAULT_MAX_LENGTH, weak.window)
    encoded = encode_needs(rows, needs, weak.tokenizer, limit)
    first = encoded[needs[0]]
    response = np.array([row.n_response for row in first], dtype=np.int64)
    asked = np.array([row.n_prompt for row in first], dtype=np.int64)
    learnt = trained_lengths(rows, strong, recipe.train)
    return Lengths(rows, asked + response, response, _passes(encoded), learnt)


def _passes(encoded: Mapping[Need, Sequence[Any]]) -> tuple[Ints, ...]:
    from pilotfish.engine.batch_plan import distinct
    from pilotfish.engine.scorer import LENGTHS, by_pass

    found = []
    for asked in by_pass(encoded):
        if LENGTHS not in asked:
            rows = [row for row in next(iter(asked.values())) if len(row.read.ids)]
            kinds = distinct(rows).first if rows else np.zeros(0, np.int64)
            found.append(np.array([len(rows[int(i)].read.ids) for i in kinds], dtype=np.int64))
    return tuple(found)


def trained_lengths(rows: Sequence[Example], strong: Model, config: TrainConfig) -> Ints:
    """[m] tokens of each row as `config` trains on it; 0 where it cannot be learnt."""
    from pilotfish.tokenization import encode_training

    limit = min(config.max_length, strong.window or config.max_length)
    return np.array(
        [len(row.ids) for row in encode_training(rows, strong.tokenizer, limit)], dtype=np.int64
    )


def padded(lengths: Ints, config: TrainConfig, *, draws: int = 64) -> float:
    """Positions that one optimizer step computes, padding included, for rows of such lengths.

    The mean of some steps, always the same ones.
    """
    from pilotfish.data_order import rows_per_step

    known = lengths[lengths > 0]
    if not len(known):
        return 0.0
    rng, size = np.random.default_rng(0), rows_per_step(config)
    drawn = (known[rng.integers(0, len(known), size)].tolist() for _ in range(draws))
    return sum(padded_step(each, config) for each in drawn) / draws


def padded_step(lengths: Sequence[int], config: TrainConfig) -> float:
    """Positions of one step, its rows cut into micro-batches as training cuts them."""
    from pilotfish.data_order import micro_batches

    cut = micro_batches(range(len(lengths)), lengths, config.per_device_train_batch_size)
    return float(sum(len(part) * max(lengths[i] for i in part) for part in cut))


def in_view(lengths: Ints) -> float:
    """Positions an average token attends to: half a row, and long rows have the more tokens."""
    total = float(lengths.sum())
    return float(np.square(lengths.astype(np.float64)).sum()) / (2 * total) if total else 0.0
