"""The output head in int8: log-probabilities over a vocabulary, tile by tile.

Only the logit of the true token is taken in fp32: it enters the result undiluted, while errors of
the others average out in the log-sum-exp.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch

from pilotfish.engine.int8.linear import QuantizedWeight
from pilotfish.engine.int8.native import kernels
from pilotfish.engine.signals import Tile, facts

After = Callable[[torch.Tensor], torch.Tensor]

_ROWS, _WIDTH = 1024, 2048  # tokens and ids of a tile: 8 MiB of sums, which the caches hold


class Int8Head:
    """logits = W h (+ b) with W int8 per id and h int8 per token; sums of exponentials in fp32."""

    def __init__(self, linear: Any, after: After | None = None) -> None:
        """`after` is what the model does to its logits (soft cap, scale); None for nothing."""
        self._weight, self._bias = linear.weight.detach(), getattr(linear, "bias", None)
        self._narrow = QuantizedWeight.of(self._weight, self._bias)
        self._after = after

    def facts(
        self,
        states: torch.Tensor,
        targets: torch.Tensor,
        facets: Collection[str],
        k: int,
        *,
        real_ids: int | None = None,
        uniform: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Facets of m tokens, from the states [m, d] that predict them; ids `targets` [m].

        `nll` is always made the same way, whatever else is asked for; over real ids alone it is
        made as the others are.
        """
        found: list[dict[str, torch.Tensor]] = []
        others = [name for name in facets if name != "nll" or real_ids is not None]
        for first in range(0, max(len(states), 1), _ROWS):
            here = slice(first, first + _ROWS)
            some, ids = states[here], targets[here]
            chance = None if uniform is None else uniform[here]
            part: dict[str, torch.Tensor] = {}
            if others:
                part = facts(
                    self.head_tiles(some), ids, others, k, real_ids=real_ids, uniform=chance
                )
            if "nll" in facets and "nll" not in part:
                part["nll"] = self.nll(some, ids)
            found.append(part)
        return {name: torch.cat([part[name] for part in found]) for name in facets}

    def nll(self, states: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """-log p(id) [m] nats >= 0 for states [m, d], ids [m]; nan where a state is not finite."""
        nats = self.log_sum(states) - self.target_logits(states, ids)
        return nats.clamp(min=0)  # rounding can carry the true logit above the sum

    def target_logits(self, states: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """[m] the logit of one id each, in fp32 from the fp32 weights."""
        logits = (states * self._weight[ids]).sum(dim=1)
        if self._bias is not None:
            logits = logits + self._bias[ids]
        return logits if self._after is None else self._after(logits)

    def log_sum(self, states: torch.Tensor) -> torch.Tensor:
        """[m] log of the sum of e^logit over the vocabulary; logits are never written down."""
        m = len(states)
        top, total = torch.full((m,), float("-inf")), torch.zeros(m)
        if self._after is not None:
            for _, logits in self.head_tiles(states):
                top = torch.logaddexp(top, logits.logsumexp(dim=1))
            return top
        q, row = self._narrow.inputs(states)
        for tile in self._tiles():
            kernels().accumulate(tile.sums(q), row, tile.scale, tile.bias, (top, total))
        return top + total.log()

    def head_tiles(self, states: torch.Tensor) -> Iterator[Tile]:
        """Logits [m, w] in fp32 of ids first, first + 1, ...; the states are narrowed once."""
        q, row = self._narrow.inputs(states)
        first = 0
        for tile in self._tiles():
            logits = kernels().rescale(tile.sums(q), row, tile.scale, tile.bias)
            yield first, logits if self._after is None else self._after(logits)
            first += len(tile.q)

    def _tiles(self) -> Iterator[QuantizedWeight]:
        for first in range(0, len(self._narrow.q), _WIDTH):
            yield self._narrow.tile(first, _WIDTH)
