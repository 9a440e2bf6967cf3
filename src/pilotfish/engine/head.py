"""Output heads: from hidden states to per-token facets, tile by tile of the vocabulary."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from pilotfish.engine.signals.tokens import FacetRequest, Facets, Tile, gather, gather_in_blocks

_WHOLE_ROWS = 256  # tokens at a time where their full logits exist already
_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")

LogitTransform = Callable[[torch.Tensor], torch.Tensor]


class TiledHead:
    """A linear head, applied to one tile of the vocabulary and one block of tokens at a time."""

    def __init__(self, linear: Any, transform: LogitTransform, device: torch.device) -> None:
        self.transform = transform
        self._weight, self._bias = linear.weight, getattr(linear, "bias", None)
        self._rows, self._width = tile_size(device)

    def facets(self, states: torch.Tensor, request: FacetRequest) -> Facets:
        """Return the facets of m tokens from the states [m, d] that predict them."""
        return gather_in_blocks(
            lambda block, part: gather(self._tiles(block), part), states, request, self._rows
        )

    def _tiles(self, states: torch.Tensor) -> Iterator[Tile]:
        for first in range(0, len(self._weight), self._width):
            ids = slice(first, first + self._width)
            bias = None if self._bias is None else self._bias[ids]
            yield first, self.transform(F.linear(states, self._weight[ids], bias)).float()


class WholeHead:
    """The head of a model whose body and head cannot be run apart: its states are logits."""

    def facets(self, logits: torch.Tensor, request: FacetRequest) -> Facets:
        """Return the facets of m tokens from the logits [m, v] that predict them."""
        return gather_in_blocks(
            lambda block, part: gather([(0, block.float())], part), logits, request, _WHOLE_ROWS
        )


def tile_size(device: torch.device) -> tuple[int, int]:
    """Return the tokens and ids of a tile: what fits a CPU's caches, or what fills a GPU."""
    return (512, 4096) if device.type == "cpu" else (4096, 16384)


def plain_logits(logits: torch.Tensor) -> torch.Tensor:
    """Return the logits of the head unchanged."""
    return logits


def logit_transforms(config: Any) -> list[LogitTransform]:
    """Return what the model may do to logits after its head, as far as its config names it."""
    found: list[LogitTransform] = [plain_logits]
    caps = (getattr(config, name, None) for name in _CAPS)
    if cap := next(filter(None, caps), None):
        found.append(lambda logits: cap * torch.tanh(logits / cap))
    if scale := getattr(config, "logit_scale", None):
        found.append(lambda logits: logits * scale)
    if divisor := getattr(config, "logits_scaling", None):
        found.append(lambda logits: logits / divisor)
    return found
