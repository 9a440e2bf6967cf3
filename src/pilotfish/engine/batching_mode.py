"""How a causal model runs several rows at once, and the probe that finds the cheapest correct mode.

The cheapest mode lays rows end to end, runs the decoder body, and applies the output head by
itself, at the scored tokens only. Some models do more between body and logits (soft caps, scales),
and some attend to their neighbours or their padding. So each shortcut is compared with the plain
model, one row at a time, before it is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pilotfish.engine.head import (
    LogitTransform,
    TiledHead,
    WholeHead,
    logit_transforms,
    plain_logits,
)
from pilotfish.engine.int8.head import Int8Head
from pilotfish.engine.int8.model import quantize
from pilotfish.engine.packed import attention_lock, layout, packed_attention
from pilotfish.errors import OutOfMemory, UsageError
from pilotfish.models import Loaded
from pilotfish.records import Ints

# Allowed difference to the plain model, relative, root mean square over logits. The head is probed
# on the very same row, so it must agree closely; other batches use other kernels, whose rounding
# grows with depth, while a model that sees its neighbours is off by tens of percent.
_HEAD = {torch.float32: 1e-5}
_BATCH = {torch.float32: 1e-3}
_HEAD_NARROW, _BATCH_NARROW = 1e-2, 0.25
_LONGEST_PROBE = 128


@dataclass(frozen=True, slots=True)
class BatchingMode:
    """How a batch runs through a model.

    batching: "packed" (rows end to end), "padded" on the right (a causal model never looks back
    from a real token at padding, so it needs no mask), or "masked" (padded, with a mask).
    split_head: body and head run apart, so that logits are computed at scored tokens only.
    """

    batching: str
    split_head: bool


@dataclass(frozen=True, slots=True)
class ModelLayout:
    """A batching mode, and the model and head that go with it (for int8 the quantised twin)."""

    mode: BatchingMode
    model: Any
    head: TiledHead | WholeHead | Int8Head


def states_of(
    model: Any, device: torch.device, rows: Sequence[NDArray[Any]], mode: BatchingMode
) -> tuple[torch.Tensor, Ints]:
    """Run one batch.

    Args:
        model: A causal language model.
        device: Where it runs.
        rows: Token ids [t] of each row.
        mode: How the rows share the batch.

    Returns:
        States [p, d] after the final norm (logits [p, v] where the head is not split), and the
        index of each row's first token in them.

    Raises:
        ValueError: The mode is packed and the model's attention cannot be.
    """
    lengths = [len(row) for row in rows]
    if mode.batching == "packed":
        config = model.config.get_text_config()
        where = layout(lengths, device, int(config.hidden_size))
        ids = torch.from_numpy(np.concatenate(rows).astype(np.int64))[None].to(device)
        with packed_attention(model, where) as windows:
            states = _forward(model, mode, input_ids=ids, position_ids=where.positions)
        _check_windows(windows, config)
        return states[0], np.cumsum([0, *lengths[:-1]])
    padded = np.zeros((len(rows), max(lengths)), dtype=np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    options = {"input_ids": torch.from_numpy(padded).to(device)}
    if mode.batching == "masked":
        steps = torch.arange(max(lengths), device=device)
        real = steps[None] < torch.tensor(lengths, device=device)[:, None]
        options["attention_mask"] = real.long()
    with attention_lock():
        states = _forward(model, mode, **options)
    return states.flatten(0, 1), np.arange(len(rows)) * max(lengths)


def _forward(model: Any, mode: BatchingMode, **inputs: torch.Tensor) -> torch.Tensor:
    if mode.split_head:
        states: torch.Tensor = model.base_model(**inputs, use_cache=False)[0]
        return states
    logits: torch.Tensor = model(**inputs, use_cache=False).logits
    return logits


def _check_windows(windows: set[int | None], config: Any) -> None:
    """Raise ValueError where layers did not pass their sliding window to packed attention.

    Some models have their own attention code; some keep their window in a mask that is not made
    here, and short probe rows would not show it.
    """
    if not windows:
        raise ValueError("the model has an attention of its own")
    slides = "sliding_attention" in (getattr(config, "layer_types", None) or ["sliding_attention"])
    if slides and getattr(config, "sliding_window", None) and not any(windows):
        raise ValueError("the model keeps its sliding window in a mask")


def max_shared_length(config: Any) -> int | None:
    """Return the length above which a row must not share a batch; None where all may.

    Models that stretch their rotary angles by the longest row of a batch would stretch them for
    its neighbours too.
    """
    text = config.get_text_config()
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    # Some models keep one set of parameters per type of layer.
    each = [one for one in rope.values() if isinstance(one, dict)] or [rope]
    stretched = [one for one in each if one.get("rope_type") in ("dynamic", "longrope")]
    if not stretched:
        return None
    usual = getattr(text, "original_max_position_embeddings", 0) or text.max_position_embeddings
    return min(int(one.get("original_max_position_embeddings") or usual) for one in stretched)


def choose_layout(loaded: Loaded) -> ModelLayout:
    """Find the cheapest mode whose logits equal those of single rows through the plain model.

    Raises:
        UsageError: Even whole padded batches differ from one row at a time.
    """
    rows = _probe_rows(loaded)
    with torch.inference_mode():
        plain = [_logits(loaded, [row], BatchingMode("padded", False))[0] for row in rows]
        transform = _transform_of(loaded, rows[0], plain[0])
        for batching in ("packed", "padded", "masked"):
            mode = BatchingMode(batching, split_head=transform is not None)
            if not _agrees(loaded, rows, plain, mode, transform):
                continue
            if loaded.precision == "int8":
                twin = quantize(loaded, None if transform is plain_logits else transform)
                head = twin.head if mode.split_head and twin.head is not None else WholeHead()
                return ModelLayout(mode, twin.model, head)
            if transform is None:
                return ModelLayout(mode, loaded.model, WholeHead())
            tiled = TiledHead(loaded.model.get_output_embeddings(), transform, loaded.device)
            return ModelLayout(mode, loaded.model, tiled)
    raise UsageError(
        f"{loaded.name} computes other numbers in a padded batch than for one row at a time, "
        "so it cannot be measured in batches",
        hint="choose another weak model with --weak",
    )


def _probe_rows(loaded: Loaded) -> list[NDArray[np.int64]]:
    """Return three rows of random ids, the longest first and longer than a short sliding window."""
    config = loaded.model.config.get_text_config()
    reach = getattr(config, "sliding_window", None) or 0
    longest = 9 if reach + 9 > _LONGEST_PROBE else reach + 9
    longest = min(longest, loaded.window or longest)
    draw = np.random.default_rng(0).integers(0, int(config.vocab_size), size=(3, longest))
    return [draw[i, : max(longest - 3 * i, 1)] for i in range(3)]


def _logits(
    loaded: Loaded,
    rows: Sequence[NDArray[Any]],
    mode: BatchingMode,
    transform: LogitTransform | None = None,
) -> list[torch.Tensor]:
    """Return [t, v] of every row."""
    states, base = states_of(loaded.model, loaded.device, rows, mode)
    if transform is not None and mode.split_head:
        states = transform(loaded.model.get_output_embeddings()(states))
    return [states[start : start + len(row)] for start, row in zip(base, rows, strict=True)]


def _transform_of(loaded: Loaded, row: NDArray[Any], plain: torch.Tensor) -> LogitTransform | None:
    """Find what turns the head's output into the model's logits; None where the head stays put."""
    model = loaded.model
    if model.get_output_embeddings() is None or model.base_model is model:
        return None
    gaps = {}
    for transform in logit_transforms(model.config.get_text_config()):
        try:
            [apart] = _logits(loaded, [row], BatchingMode("padded", True), transform)
        except (TypeError, ValueError, AttributeError):  # a body with another interface
            return None
        gaps[transform] = _gap(apart, plain)
    # the nearest: where logits are small, one without the model's soft cap is near as well
    best = min(gaps, key=lambda transform: np.nan_to_num(gaps[transform]))
    return None if gaps[best] > _HEAD.get(plain.dtype, _HEAD_NARROW) else best


def _agrees(
    loaded: Loaded,
    rows: Sequence[NDArray[Any]],
    plain: Sequence[torch.Tensor],
    mode: BatchingMode,
    transform: LogitTransform | None,
) -> bool:
    """Return whether a batch run in this mode gives every row its own logits."""
    packs = mode.batching == "packed"
    config = loaded.model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    # attention whose reach the probe's short rows cannot show
    far = kinds - {"full_attention", "sliding_attention"}
    if packs and (far or getattr(config, "attention_chunk_size", None)):
        return False
    try:
        batch = _logits(loaded, rows, mode, transform)
    except Exception as error:  # architectures fail to pack in many ways
        # out of memory does not mean that the model cannot be packed: another time it would be,
        # and its bits would differ
        if not packs or OutOfMemory.of(error):
            raise
        return False
    allowed = _BATCH.get(loaded.dtype, _BATCH_NARROW)
    return all(_close(found, one, allowed) for found, one in zip(batch, plain, strict=True))


def _close(found: torch.Tensor, plain: torch.Tensor, allowed: float) -> bool:
    # not <=, so that nan logits (a broken model) pass here and end as `nonfinite` rows
    return not _gap(found, plain) > allowed


def _gap(found: torch.Tensor, plain: torch.Tensor) -> float:
    """Return the relative difference of logits [t, v], root mean square.

    An offset common to all logits of a token means nothing, and in some models dwarfs the
    differences between them, so it is removed. Entries that are not finite (ids that a model rules
    out, a broken model) must be the same in both, else the gap is inf.
    """
    if found.shape != plain.shape:
        return float("inf")
    holes = ~torch.isfinite(plain)
    same = torch.equal(found.nan_to_num(0.0)[holes], plain.nan_to_num(0.0)[holes])
    if not same or not torch.isfinite(found[~holes]).all():
        return float("inf")
    found, plain = (each.float().nan_to_num(0.0, 0.0, 0.0) for each in (found, plain))
    both = (found - plain, plain)
    off, size = (each - each.mean(dim=-1, keepdim=True) for each in both)
    return float(off.square().mean().sqrt() / size.square().mean().sqrt())
