"""From states to what is asked of each token's distribution, tile by tile of the vocabulary."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from pilotfish.engine.signals import Tile, facts

_WHOLE = 256  # tokens at a time where their logits are there already

After = Callable[[torch.Tensor], torch.Tensor]


class TiledHead:
    """A linear head, applied to a tile of the vocabulary at a time, for some tokens at a time."""

    def __init__(self, linear: Any, after: After, device: torch.device) -> None:
        self._weight, self._bias = linear.weight, getattr(linear, "bias", None)
        self._after = after
        self._rows, self._width = tile_size(device)

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
        """Facts of m tokens, from the states [m, d] that predict them; ids `targets` [m]."""
        return joined(
            [
                facts(self.tiles(some), ids, facets, k, real_ids=real_ids, uniform=chance)
                for some, ids, chance in blocks_of(states, targets, uniform, self._rows)
            ]
        )

    def tiles(self, states: torch.Tensor) -> Iterator[Tile]:
        """Logits [m, w] in fp32, of ids first, first + 1, ..."""
        for first in range(0, len(self._weight), self._width):
            here = slice(first, first + self._width)
            bias = None if self._bias is None else self._bias[here]
            yield first, self._after(F.linear(states, self._weight[here], bias)).float()


class WholeHead:
    """For models whose logits cannot be made apart: `states` are the logits [m, v]."""

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
        """See `TiledHead`."""
        return joined(
            [
                facts([(0, some.float())], ids, facets, k, real_ids=real_ids, uniform=chance)
                for some, ids, chance in blocks_of(states, targets, uniform, _WHOLE)
            ]
        )


def blocks_of(
    states: torch.Tensor, targets: torch.Tensor, uniform: torch.Tensor | None, size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]:
    """States, targets and chances, at most `size` tokens at a time; none at all are one block."""
    for first in range(0, max(len(states), 1), size):
        here = slice(first, first + size)
        yield states[here], targets[here], None if uniform is None else uniform[here]


def joined(parts: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The facts of all blocks, one after the other."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def tile_size(device: torch.device) -> tuple[int, int]:
    """Tokens and ids of a tile: on a CPU what the caches hold, on a GPU what fills it."""
    return (512, 4096) if device.type == "cpu" else (4096, 16384)


def plain_logits(logits: torch.Tensor) -> torch.Tensor:
    """Logits as the head gives them."""
    return logits


_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")


def afters(config: Any) -> list[After]:
    """What models do to logits after the head, by the names their configs give it."""
    found: list[After] = [plain_logits]
    caps = (getattr(config, name, None) for name in _CAPS)
    if cap := next(filter(None, caps), None):
        found.append(lambda logits: cap * torch.tanh(logits / cap))
    if scale := getattr(config, "logit_scale", None):
        found.append(lambda logits: logits * scale)
    if divisor := getattr(config, "logits_scaling", None):
        found.append(lambda logits: logits / divisor)
    return found
