"""One batch through a model: passages in, the requested facets of their tokens out to reducers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pilotfish.engine.batching_mode import (
    BatchingMode,
    ModelLayout,
    choose_layout,
    max_shared_length,
    states_of,
)
from pilotfish.engine.signals import Signal
from pilotfish.engine.signals.sampled import Sampled
from pilotfish.engine.signals.tokens import HEAD_FACETS, FacetRequest, Tokens
from pilotfish.errors import UsageError
from pilotfish.models import Loaded
from pilotfish.records import Ints
from pilotfish.tokenization import Passage


@dataclass(frozen=True, slots=True)
class TokenQuery:
    """One need of a pass: its reducer, and which tokens of each passage it scores."""

    reducer: Signal
    targets: Sequence[NDArray[np.bool_]]  # [t] for each of the u passages


class Forward:
    """A loaded model in the cheapest batching mode that gives the plain model's numbers."""

    def __init__(self, loaded: Loaded, *, real_ids: int | None = None) -> None:
        """Wrap a model; the probe for its batching mode runs at first use.

        Args:
            loaded: The model.
            real_ids: Ids from here on pad the head and get no probability; None: all ids are real.
        """
        self._loaded, self._real_ids = loaded, real_ids

    @cached_property
    def layout(self) -> ModelLayout:
        """Mode, model and head. Raises UsageError where the model cannot run in batches."""
        fuse_gelu(self._loaded.model)
        return choose_layout(self._loaded)

    @property
    def mode(self) -> BatchingMode:
        """How batches run."""
        return self.layout.mode

    @cached_property
    def vocabulary(self) -> int:
        """How many ids the model has an embedding for; some tokenizers know more."""
        return int(self._loaded.model.get_input_embeddings().num_embeddings)

    @cached_property
    def max_shared_length(self) -> int | None:
        """Rows longer than this get a batch of their own."""
        return max_shared_length(self._loaded.model.config)

    def run(
        self, passages: Sequence[Passage], indices: Ints, queries: Sequence[TokenQuery]
    ) -> None:
        """Run one batch and add its tokens to the reducers.

        The head sees all tokens of the response side in one call, whichever of them are scored,
        and those of the prompt side in another, so no number depends on the other queries.

        Args:
            passages: The b passages of the batch.
            indices: [b] index of each passage among the u of every query.
            queries: The needs of this pass.
        """
        ids = [passage.ids for passage in passages]
        starts = np.array([passage.marks[0] for passage in passages])
        lengths = np.array([len(row) for row in ids])
        predicting = [query for query in queries if query.reducer.facets & HEAD_FACETS]
        pooling = [query for query in queries if "state" in query.reducer.facets]
        with torch.inference_mode():
            states, base = states_of(self.layout.model, self._loaded.device, ids, self.mode)
            batch = _Batch(ids, indices, base)
            if predicting:
                sides = [(starts, lengths)]
                if any(
                    query.targets[index][1:start].any()
                    for query in predicting
                    for index, start in zip(indices, starts, strict=True)
                ):
                    sides.append((np.ones_like(starts), starts))
                for begin, end in sides:
                    tokens = batch.tokens(begin, end)
                    facets = self._head_facets(states, batch, tokens, predicting)
                    batch.feed(predicting, tokens, facets)
            if pooling:
                tokens = batch.tokens(np.zeros_like(starts), lengths)
                batch.feed(pooling, tokens, {"state": self._states(states, batch, tokens)})

    def _head_facets(
        self,
        states: torch.Tensor,
        batch: "_Batch",
        tokens: "_BatchTokens",
        queries: Sequence[TokenQuery],
    ) -> dict[str, NDArray[Any]]:
        device = self._loaded.device
        uniform = None
        if sampled := [q.reducer for q in queries if isinstance(q.reducer, Sampled)]:
            [one] = sampled  # two needs that draw do not share a pass
            numbers = np.concatenate([one.uniforms(row) for row in batch.ids])[tokens.flat]
            uniform = torch.from_numpy(numbers).to(device)
        names = frozenset[str]().union(*(query.reducer.facets for query in queries))
        targets = np.concatenate(batch.ids).astype(np.int64)[tokens.flat]
        request = FacetRequest(
            names & HEAD_FACETS,
            torch.from_numpy(targets).to(device),
            k=max(getattr(query.reducer, "k", 0) for query in queries),
            real_ids=self._real_ids,
            uniform=uniform,
        )
        before = torch.from_numpy(tokens.state - 1).to(device)  # the states that predict the tokens
        found = self.layout.head.facets(states[before], request)
        return {name: values.cpu().numpy() for name, values in found.items()}

    def _states(
        self, states: torch.Tensor, batch: "_Batch", tokens: "_BatchTokens"
    ) -> NDArray[np.float32]:
        """Return [m, d] the hidden states of tokens; a model that is not split runs once more."""
        if not self.mode.split_head:
            model = self.layout.model
            if model.base_model is model:
                raise UsageError(
                    f"the hidden states of {self._loaded.name} cannot be read",
                    hint="choose another weak model, or a method without hidden states",
                )
            mode = BatchingMode(self.mode.batching, split_head=True)
            states, _ = states_of(model, self._loaded.device, batch.ids, mode)
        places = torch.from_numpy(tokens.state).to(states.device)
        return np.asarray(states[places].float().cpu().numpy())


@dataclass(frozen=True, slots=True)
class _BatchTokens:
    """m tokens of a batch, row after row."""

    row: Ints  # [m] row of the batch
    position: Ints  # [m] position in the row
    state: Ints  # [m] index in the states
    flat: Ints  # [m] index in the concatenated ids


@dataclass(frozen=True, slots=True)
class _Batch:
    """b rows that were run together."""

    ids: Sequence[NDArray[np.int32]]
    indices: Ints  # [b] index of each row among the passages of the queries
    base: Ints  # [b] index of each row's first token in the states

    def tokens(self, begin: Ints, end: Ints) -> _BatchTokens:
        """Return the tokens begin[i] .. end[i] - 1 of every row i."""
        size = np.maximum(end - begin, 0)
        row = np.repeat(np.arange(len(size)), size)
        position = np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size, size) + begin[row]
        first = np.cumsum([0, *(len(each) for each in self.ids)])
        return _BatchTokens(row, position, self.base[row] + position, first[row] + position)

    def feed(
        self,
        queries: Sequence[TokenQuery],
        tokens: _BatchTokens,
        facets: Mapping[str, NDArray[Any]],
    ) -> None:
        """Add to each reducer the tokens it scores, with the facets it reads."""
        for query in queries:
            scored = np.concatenate([query.targets[index] for index in self.indices])[tokens.flat]
            own = {name: facets[name] for name in query.reducer.facets}
            block = Tokens(self.indices[tokens.row], tokens.position, own)
            query.reducer.block(block.select(scored))


def fuse_gelu(model: Any) -> None:
    """Replace GPT-2's spelled-out GELU by the fused one: the same function, up to rounding."""
    fused = torch.nn.GELU(approximate="tanh")
    for module in model.modules():
        for name, child in list(module.named_children()):
            if type(child).__name__ == "NewGELUActivation":
                setattr(module, name, fused)
