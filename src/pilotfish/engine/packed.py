"""Rows laid end to end in one sequence, each blind to the others: no padding, no block mask.

transformers lets a model's attention be swapped by name. Ours cuts the long sequence back into
rows: neighbours of nearly equal length are padded for the attention step alone, which is a small
part of the work; every matrix product runs over real tokens only.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AttentionInterface

from pilotfish.records import Ints

NAME = "pilotfish_packed"
# Neighbouring rows share an attention call while padding them costs at most this share more.
_STRETCH = 1.25
# On a CPU a call costs less than padding and copying rows of at least so many numbers.
_ALONE = 32_768


class Group(NamedTuple):
    """Neighbouring rows that one attention call serves."""

    begin: int  # first token
    rows: int
    longest: int
    even: bool  # all of one length: no padding at all
    place: torch.Tensor  # [tokens] where each token stands in the padded [rows, longest]


class Layout(NamedTuple):
    """Where rows lie in the long sequence."""

    positions: torch.Tensor  # [1, t] each row from 0
    groups: tuple[Group, ...]


def layout(lengths: Sequence[int], device: torch.device, width: int = 1) -> Layout:
    """The layout of rows of these lengths, longest first for the fewest groups.

    width: numbers that attention handles per token (heads times their size).
    """
    positions = np.concatenate([np.arange(length) for length in lengths])
    groups, begin = [], 0
    alone = _ALONE // width if device.type == "cpu" else max(lengths) + 1
    for alike in _runs(lengths, alone):
        groups.append(_group(begin, np.asarray(alike, dtype=np.int64), device))
        begin += sum(alike)
    return Layout(torch.from_numpy(positions)[None].to(device), tuple(groups))


def _runs(lengths: Sequence[int], alone: int) -> Iterator[Sequence[int]]:
    """Neighbours that are cheap to pad to one length, as long runs as possible; rows of at least
    `alone` tokens by themselves."""
    first = total = longest = 0
    for last, length in enumerate(lengths):
        wider = max(longest, length)
        if last > first and (
            wider >= alone or wider * (last + 1 - first) > _STRETCH * (total + length)
        ):
            yield lengths[first:last]
            first, total, wider = last, 0, length
        total, longest = total + length, wider
    yield lengths[first:]


def _group(begin: int, lengths: Ints, device: torch.device) -> Group:
    longest = int(lengths.max())
    place = np.concatenate([row * longest + np.arange(n) for row, n in enumerate(lengths)])
    even = bool((lengths == longest).all())
    return Group(begin, len(lengths), longest, even, torch.from_numpy(place).to(device))


_now = threading.local()
# A model has one attention at a time: threads that share it take turns.
_turn = threading.RLock()


# Tensors that models hand to every attention, and that change none.
_HARMLESS = {"position_ids", "cache_position"}


@contextmanager
def packed(model: Any, where: Layout) -> Iterator[set[int | None]]:
    """Inside, the model's attention keeps the rows of `where` apart.

    Gives the sliding windows that its layers ask for (None: none), empty where the model has an
    attention of its own and never asks ours.
    """
    with in_turn():
        configs = _configs(model)
        before = [config._attn_implementation for config in configs]
        _now.layout, _now.windows = where, set()
        for config in configs:
            config._attn_implementation = NAME
        try:
            yield _now.windows
        finally:
            for config, name in zip(configs, before, strict=True):
                config._attn_implementation = name
            _now.layout = None


@contextmanager
def in_turn() -> Iterator[None]:
    """Inside, no other thread changes the attention of a model."""
    with _turn:
        yield


def _configs(model: Any) -> list[Any]:
    """The config objects that modules of the model read their attention's name from."""
    found = {id(each.config): each.config for each in model.modules() if hasattr(each, "config")}
    return list(found.values())


def attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within rows: query [1, h, t, d], key and value [1, g, t, d] with g | h;
    gives [1, t, h, d]. ValueError for tensors that would change it (a mask, sinks, biases)."""
    del module
    strange = {name for name, value in more.items() if torch.is_tensor(value)} - _HARMLESS
    if attention_mask is not None or strange:
        raise ValueError(f"attention with {', '.join(sorted(strange)) or 'a mask'} is not packed")
    _now.windows.add(sliding_window)
    out = query.new_empty((query.shape[2], query.shape[1], value.shape[-1]))
    for group in _now.layout.groups:
        tokens = slice(group.begin, group.begin + len(group.place))
        q, k, v = (_spread(each[0, :, tokens], group) for each in (query, key, value))
        done = _causal(q, k, v, scaling, sliding_window, softcap)  # [rows, h, longest, d]
        flat = done.transpose(1, 2).reshape(-1, *out.shape[1:])
        out[tokens] = flat if group.even else flat[group.place]
    return out[None], None


def _spread(part: torch.Tensor, group: Group) -> torch.Tensor:
    """[h, tokens, d] -> [rows, h, longest, d]; what pads is zero, and behind every real token."""
    heads, _, width = part.shape
    if not group.even:
        padded = part.new_zeros((heads, group.rows * group.longest, width))
        padded[:, group.place] = part
        part = padded
    return part.reshape(heads, group.rows, group.longest, width).transpose(0, 1)


def _causal(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    shared = query.shape[1] // key.shape[1]
    narrow = window is not None and window < query.shape[2]
    fused: dict[str, Any] = {"scale": scaling, "enable_gqa": shared > 1}
    if softcap is None and not narrow:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, **fused)
    steps = torch.arange(query.shape[2], device=query.device)
    behind = steps[:, None] - steps[None]
    seen = (behind >= 0) & (behind < (window if narrow and window else len(steps)))
    if softcap is None:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=seen, **fused)
    key, value = (each.repeat_interleave(shared, dim=1) for each in (key, value))
    scores = query @ key.transpose(2, 3) * (scaling or query.shape[-1] ** -0.5)
    scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~seen, float("-inf"))
    return scores.float().softmax(dim=-1).to(value.dtype) @ value


AttentionInterface.register(NAME, attention)
