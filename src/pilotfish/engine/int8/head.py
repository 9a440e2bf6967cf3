"""The output head in int8: log-probabilities over a vocabulary, tile by tile.

Only the logit of the true token is computed in fp32: it enters the result undiluted, while errors
of the other logits average out in the log-sum-exp.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from pilotfish.engine.head import LogitTransform
from pilotfish.engine.int8.linear import QuantizedWeight
from pilotfish.engine.int8.native import kernels
from pilotfish.engine.signals.tokens import FacetRequest, Facets, Tile, gather, gather_in_blocks

_ROWS, _WIDTH = 1024, 2048  # tokens and ids of a tile: 8 MiB of sums, which fit the caches


class Int8Head:
    """logits = W h (+ b) with W int8 per id and h int8 per token; sums of exponentials in fp32."""

    def __init__(self, linear: Any, transform: LogitTransform | None = None) -> None:
        """Quantise a linear head.

        Args:
            linear: The fp32 head.
            transform: What the model does to logits after its head (soft cap, scale), if anything.
        """
        self._weight, self._bias = linear.weight.detach(), getattr(linear, "bias", None)
        self._narrow = QuantizedWeight.of(self._weight, self._bias)
        self._transform = transform

    def facets(self, states: torch.Tensor, request: FacetRequest) -> Facets:
        """Return the facets of m tokens from the states [m, d] that predict them.

        `nll` is computed the same way whatever else is requested; restricted to real ids, it is
        computed as the other facets are.
        """
        return gather_in_blocks(self._block, states, request, _ROWS)

    def _block(self, states: torch.Tensor, request: FacetRequest) -> Facets:
        others = request.names if request.real_ids is not None else request.names - {"nll"}
        facets: Facets = {}
        if others:
            facets = gather(self.head_tiles(states), replace(request, names=others))
        if "nll" in request.names and "nll" not in facets:
            facets["nll"] = self.nll(states, request.targets)
        return facets

    def nll(self, states: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Return -log p(id) [m] nats >= 0 of ids [m]; nan where a state [m, d] is not finite."""
        nats = self.log_sum(states) - self.target_logits(states, ids)
        return nats.clamp(min=0)  # rounding can carry the true logit above the sum

    def target_logits(self, states: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Return [m] the logit of one id per state, in fp32 from the fp32 weights."""
        logits = (states * self._weight[ids]).sum(dim=1)
        if self._bias is not None:
            logits = logits + self._bias[ids]
        return logits if self._transform is None else self._transform(logits)

    def log_sum(self, states: torch.Tensor) -> torch.Tensor:
        """Return [m] the log of the sum of e^logit over the vocabulary, without storing logits."""
        m = len(states)
        top, total = torch.full((m,), float("-inf")), torch.zeros(m)
        if self._transform is not None:
            for _, logits in self.head_tiles(states):
                top = torch.logaddexp(top, logits.logsumexp(dim=1))
            return top
        q, row = self._narrow.inputs(states)
        for first in range(0, len(self._narrow.q), _WIDTH):
            tile = self._narrow.tile(first, _WIDTH)
            kernels().accumulate(tile.product(q, row), (top, total))
        return top + total.log()

    def head_tiles(self, states: torch.Tensor) -> Iterator[Tile]:
        """Yield logits [m, w] in fp32 of ids first, first + 1, ...; states are quantised once."""
        q, row = self._narrow.inputs(states)
        for first in range(0, len(self._narrow.q), _WIDTH):
            logits = kernels().rescale(self._narrow.tile(first, _WIDTH).product(q, row))
            yield first, logits if self._transform is None else self._transform(logits)
