"""Packed attention: rows laid end to end in one sequence, each attending to itself only.

transformers lets a model's attention be replaced by name. Ours cuts the long sequence back into
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

NAME = "pilotfish_packed"
# Neighbouring rows share an attention call while padding them costs at most this factor.
_STRETCH = 1.25
# On a CPU, one call per row is cheaper than padding and copying rows of at least this many numbers.
_SINGLE = 32_768
# Tensors that models pass to every attention, and that change none.
_IGNORED = {"position_ids", "cache_position"}


class Group(NamedTuple):
    """Neighbouring rows that one attention call serves."""

    begin: int  # first token
    rows: int
    longest: int
    even: bool  # all rows have the same length: no padding at all
    place: torch.Tensor  # [tokens] index of each token in the padded [rows, longest]


class Layout(NamedTuple):
    """Where rows lie in the long sequence."""

    positions: torch.Tensor  # [1, t] each row from 0
    groups: tuple[Group, ...]


def layout(lengths: Sequence[int], device: torch.device, width: int = 1) -> Layout:
    """Lay rows end to end.

    Args:
        lengths: Tokens of each row; longest first gives the fewest groups.
        device: Where the model runs.
        width: Numbers that attention reads per token (heads times their size).
    """
    positions = np.concatenate([np.arange(length) for length in lengths])
    single = _SINGLE // width if device.type == "cpu" else max(lengths) + 1
    groups, begin = [], 0
    for run in _runs(lengths, single):
        longest = max(run)
        place = np.concatenate([row * longest + np.arange(n) for row, n in enumerate(run)])
        even = min(run) == longest
        groups.append(Group(begin, len(run), longest, even, torch.from_numpy(place).to(device)))
        begin += sum(run)
    return Layout(torch.from_numpy(positions)[None].to(device), tuple(groups))


def _runs(lengths: Sequence[int], single: int) -> Iterator[Sequence[int]]:
    """Yield runs of neighbours that are cheap to pad to one length, as long as possible.

    A row of at least `single` tokens is a run of its own.
    """
    first = total = longest = 0
    for last, length in enumerate(lengths):
        wider = max(longest, length)
        if last > first and (
            wider >= single or wider * (last + 1 - first) > _STRETCH * (total + length)
        ):
            yield lengths[first:last]
            first, total, wider = last, 0, length
        total, longest = total + length, wider
    yield lengths[first:]


_current = threading.local()  # layout and windows of the batch that this thread runs
_model_lock = threading.RLock()


@contextmanager
def attention_lock() -> Iterator[None]:
    """Keep other threads from changing a model's attention: a model has one at a time."""
    with _model_lock:
        yield


@contextmanager
def packed_attention(model: Any, rows: Layout) -> Iterator[set[int | None]]:
    """Make the model's attention keep the rows of a layout apart, inside the context.

    Yields:
        The sliding windows of the layers that ran (None: no window). It stays empty where the
        model has its own attention code and never calls ours.
    """
    with attention_lock():
        # the config objects from which modules of the model read their attention's name
        configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
        before = {key: config._attn_implementation for key, config in configs.items()}
        _current.layout, _current.windows = rows, set()
        for config in configs.values():
            config._attn_implementation = NAME
        try:
            yield _current.windows
        finally:
            for key, config in configs.items():
                config._attn_implementation = before[key]
            _current.layout = None


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
    """Compute causal attention within rows; the signature is that of transformers.

    Args:
        module: The calling layer, not used.
        query: [1, h, t, d].
        key: [1, g, t, d], where g divides h.
        value: [1, g, t, d].
        attention_mask: Must be None.
        scaling: Factor of the scores; None for d ** -0.5.
        sliding_window: How many tokens a token sees, itself included; None for all before it.
        softcap: Bound of a tanh over the scores, if the model has one.
        more: Arguments that do not change attention.

    Returns:
        [1, t, h, d], and None for the attention weights.

    Raises:
        ValueError: A tensor would change attention (a mask, sinks, biases).
    """
    del module
    strange = {name for name, each in more.items() if torch.is_tensor(each)} - _IGNORED
    if attention_mask is not None or strange:
        raise ValueError(f"attention with {', '.join(sorted(strange)) or 'a mask'} is not packed")
    _current.windows.add(sliding_window)
    out = query.new_empty((query.shape[2], query.shape[1], value.shape[-1]))
    for group in _current.layout.groups:
        tokens = slice(group.begin, group.begin + len(group.place))
        q, k, v = (_padded(each[0, :, tokens], group) for each in (query, key, value))
        done = _causal(q, k, v, scaling, sliding_window, softcap)  # [rows, h, longest, d]
        flat = done.transpose(1, 2).reshape(-1, *out.shape[1:])
        out[tokens] = flat if group.even else flat[group.place]
    return out[None], None


def _padded(part: torch.Tensor, group: Group) -> torch.Tensor:
    """[h, tokens, d] -> [rows, h, longest, d], with zeros behind the real tokens of each row."""
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
