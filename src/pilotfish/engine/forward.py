"""One batch through the model: what is asked of its tokens, and of nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pilotfish.engine.batching_mode import (
    BatchingMode,
    ModelLayout,
    alone_above,
    choose_layout,
    states_of,
)
from pilotfish.engine.signals import HEAD_FACETS, Sampled, Signal, Tokens
from pilotfish.errors import UsageError
from pilotfish.models import Loaded
from pilotfish.records import Floats, Ints
from pilotfish.tokenization import Passage

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TokenQuery:
    """One need of a pass: the reducer, and which tokens of each of its passages it counts [t]."""

    reducer: Signal
    target: Sequence[Mask]


@dataclass(frozen=True, slots=True)
class _Places:
    """Tokens of a batch, row after row: of which row, where in it, where in the states."""

    row: Ints
    at: Ints
    flat: Ints


class Forward:
    """A loaded model with the leanest way that gives the plain model's numbers."""

    def __init__(self, loaded: Loaded, *, real_ids: int | None = None) -> None:
        """`real_ids`: ids from here on pad the head and get no probability; None: all may."""
        self._loaded, self._real_ids = loaded, real_ids

    @cached_property
    def chosen(self) -> ModelLayout:
        """Found by a probe at first use. Raises UsageError where the model cannot be batched."""
        lean_activations(self._loaded.model)
        return choose_layout(self._loaded)

    @property
    def way(self) -> BatchingMode:
        """How batches are run."""
        return self.chosen.way

    @cached_property
    def vocabulary(self) -> int:
        """Ids the model has an embedding for; some tokenizers know more."""
        return int(self._loaded.model.get_input_embeddings().num_embeddings)

    @cached_property
    def alone_above(self) -> int | None:
        """Rows longer than this get a batch of their own."""
        return alone_above(self._loaded.model.config)

    def run(self, passages: Sequence[Passage], where: Ints, asks: Sequence[TokenQuery]) -> None:
        """Feed every ask its tokens of `passages`; passage i is known to it as `where[i]`.

        The response side of every passage goes through the head as one, whatever part of it is
        asked for, and the prompt side on its own: so no number depends on what else is asked.
        """
        ids = [passage.ids for passage in passages]
        starts = np.array([passage.marks[0] for passage in passages])
        lengths = np.array([len(one) for one in ids])
        facets = frozenset[str]().union(*(ask.reducer.facets for ask in asks))
        predicts = [ask for ask in asks if ask.reducer.facets & HEAD_FACETS]
        pools = [ask for ask in asks if "state" in ask.reducer.facets]
        with torch.inference_mode():
            states, base = states_of(self.chosen.model, self._loaded.device, ids, self.way)
            if predicts:
                wanted = facets & HEAD_FACETS
                sides = [(starts, lengths)]
                if any(ask.target[k][1 : passages[i].marks[0]].any()
                       for ask in predicts for i, k in enumerate(where)):  # fmt: skip
                    sides.append((np.ones_like(starts), starts))
                for begin, end in sides:
                    places = _places(begin, end, base)
                    found = self._facts(states, ids, places, wanted, predicts)
                    _feed(predicts, ids, places, where, found)
            if pools:
                places = _places(np.zeros_like(starts), lengths, base)
                state = self._pooled(states, ids, places)
                _feed(pools, ids, places, where, {"state": state})

    def _facts(
        self,
        states: torch.Tensor,
        ids: Sequence[NDArray[Any]],
        places: _Places,
        facets: frozenset[str],
        asks: Sequence[TokenQuery],
    ) -> dict[str, NDArray[Any]]:
        device = self._loaded.device
        before = torch.from_numpy(places.flat - 1).to(device)  # what predicts a token
        true = np.concatenate(ids).astype(np.int64)[_flat_ids(ids, places)]
        k = max(getattr(ask.reducer, "k", 0) for ask in asks)
        targets = torch.from_numpy(true).to(device)
        chance = _chances(ids, places, asks)
        found = self.chosen.head.facts(
            states[before], targets, facets, k, real_ids=self._real_ids,
            uniform=None if chance is None else torch.from_numpy(chance).to(device),
        )  # fmt: skip
        return {name: values.cpu().numpy() for name, values in found.items()}

    def _pooled(
        self, states: torch.Tensor, ids: Sequence[NDArray[Any]], places: _Places
    ) -> NDArray[np.float32]:
        if not self.way.lean:
            model = self.chosen.model
            if model.base_model is model:
                raise UsageError(f"the hidden states of {self._loaded.name} cannot be read")
            way = BatchingMode(self.way.batching, lean=True)
            states, _ = states_of(model, self._loaded.device, ids, way)
        flat = torch.from_numpy(places.flat).to(states.device)
        return np.asarray(states[flat].float().cpu().numpy())


def _places(begin: Ints, end: Ints, base: Ints) -> _Places:
    """Tokens begin[i] .. end[i] - 1 of every row i, whose first lies at base[i] of the states."""
    size = np.maximum(end - begin, 0)
    row = np.repeat(np.arange(len(size)), size)
    at = np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size, size) + begin[row]
    return _Places(row, at, base[row] + at)


def _chances(
    ids: Sequence[NDArray[Any]], places: _Places, asks: Sequence[TokenQuery]
) -> Floats | None:
    """[m, n] what the draws of these tokens are made of; None where nobody draws.

    ValueError where two needs of a pass draw.
    """
    drawing = [ask.reducer for ask in asks if isinstance(ask.reducer, Sampled)]
    if not drawing:
        return None
    [one] = drawing
    every = np.concatenate([one.uniforms(row) for row in ids])
    return np.asarray(every[_flat_ids(ids, places)])


def _flat_ids(ids: Sequence[NDArray[Any]], places: _Places) -> Ints:
    first = np.cumsum([0, *(len(one) for one in ids)])
    return np.asarray(first[places.row] + places.at)


def _feed(
    asks: Sequence[TokenQuery],
    ids: Sequence[NDArray[Any]],
    places: _Places,
    where: Ints,
    found: dict[str, NDArray[Any]],
) -> None:
    flat = _flat_ids(ids, places)
    for ask in asks:
        mine = {name: found[name] for name in ask.reducer.facets}
        counted = np.concatenate([ask.target[kind] for kind in where])[flat]
        ask.reducer.block(Tokens(where[places.row], places.at, mine).where(counted))


def lean_activations(model: Any) -> None:
    """Let GPT-2's spelled-out GELU be one fused step: the same function, to rounding."""
    fused = torch.nn.GELU(approximate="tanh")
    for module in model.modules():
        for name, child in list(module.named_children()):
            if type(child).__name__ == "NewGELUActivation":
                setattr(module, name, fused)
