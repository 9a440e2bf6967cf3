"""Ways to run a causal model over several rows at once; a probe finds the leanest true one.

The lean way lays rows end to end, runs the decoder body and applies the output head by itself, to
the states that matter only. Some models do more between body and logits (soft caps, scales), and
some look at their neighbours or their padding; so each shortcut is compared with the plain model,
one row at a time, before it is trusted.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pilotfish.engine.head import After, TiledHead, WholeHead, afters, plain_logits
from pilotfish.engine.int8 import Int8Head, prepare
from pilotfish.engine.packed import in_turn, layout, packed
from pilotfish.errors import OutOfMemory, UsageError
from pilotfish.models import Loaded
from pilotfish.records import Ints

# Allowed difference to the plain model, relative, root mean square over logits. The head is probed
# on the very same row, so it has to agree closely; other batches take other kernels, whose
# rounding grows with depth, while a model that sees its neighbours is off by tens of percent.
_HEAD = {torch.float32: 1e-5}
_BATCH = {torch.float32: 1e-3}
_HEAD_NARROW, _BATCH_NARROW = 1e-2, 0.25
_LONGEST_PROBE = 128


@dataclass(frozen=True, slots=True)
class BatchingMode:
    """batching: "packed" (end to end), "padded" on the right (where a causal model never looks
    back from a real token, so no mask is needed), or "masked" (padded, with a mask).
    lean: body and head apart, so that logits are made at scored tokens only.
    """

    batching: str
    lean: bool


@dataclass(frozen=True, slots=True)
class ModelLayout:
    """A way, and the model and head that go with it (for int8 a narrowed twin of the model)."""

    way: BatchingMode
    model: Any
    head: TiledHead | WholeHead | Int8Head


def states_of(
    model: Any, device: torch.device, rows: Sequence[NDArray[Any]], way: BatchingMode
) -> tuple[torch.Tensor, Ints]:
    """[p, d] states after the final norm (not lean: [p, v] logits), and each row's first place."""
    if way.batching == "packed":
        return _packed(model, device, rows, way)
    tokens = torch.from_numpy(pad_right(rows)).to(device)
    options: dict[str, Any] = {"input_ids": tokens, "use_cache": False}
    if way.batching == "masked":
        known = torch.tensor([len(row) for row in rows], device=tokens.device)
        steps = torch.arange(tokens.shape[1], device=tokens.device)
        options["attention_mask"] = (steps[None] < known[:, None]).long()
    with in_turn():
        found = model.base_model(**options)[0] if way.lean else model(**options).logits
    return found.flatten(0, 1), np.arange(len(rows)) * tokens.shape[1]


def _packed(
    model: Any, device: torch.device, rows: Sequence[NDArray[Any]], way: BatchingMode
) -> tuple[torch.Tensor, Ints]:
    lengths = [len(row) for row in rows]
    where = layout(lengths, device, int(model.config.get_text_config().hidden_size))
    ids = torch.from_numpy(np.concatenate(rows).astype(np.int64))[None].to(device)
    options = {"input_ids": ids, "position_ids": where.positions, "use_cache": False}
    with packed(model, where) as windows:
        found = model.base_model(**options)[0] if way.lean else model(**options).logits
    _check_reach(windows, model.config.get_text_config())
    return found[0], np.cumsum([0, *lengths[:-1]])


def _check_reach(windows: Collection[int | None], config: Any) -> None:
    """ValueError where a model's layers did not tell our attention how far back to look.

    Some have an attention of their own; some keep their window in a mask that is not made here,
    and short rows would not show it.
    """
    if not windows:
        raise ValueError("the model has an attention of its own")
    slides = "sliding_attention" in (getattr(config, "layer_types", None) or ["sliding_attention"])
    if slides and getattr(config, "sliding_window", None) and not any(windows):
        raise ValueError("the model keeps its sliding window in a mask")


def pad_right(rows: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """[b, t] with every row at the left edge and zeros behind it."""
    padded = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded


def choose_layout(loaded: Loaded) -> ModelLayout:
    """The leanest way whose logits in a batch are those of single rows through the model.

    Raises UsageError where even whole padded batches differ from one row at a time.
    """
    rows = _probe_rows(loaded)
    with torch.inference_mode():
        plain = [_logits(loaded, [row], BatchingMode("padded", False))[0] for row in rows]
        after = _split(loaded, rows[0], plain[0])
        for batching in ("packed", "padded", "masked"):
            way = BatchingMode(batching, after is not None)
            if _true(loaded, rows, plain, way, after):
                return _chosen(loaded, way, after)
    raise UsageError(
        f"{loaded.name} gives other numbers in a padded batch than for one row at a time, "
        "so it cannot be measured in batches"
    )


def alone_above(config: Any) -> int | None:
    """Rows longer than this must not share a batch; None where all may.

    Models that stretch their rotary angles by the longest row in sight would stretch them for
    its neighbours too.
    """
    text = config.get_text_config()
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    # Some models keep one set of parameters for each type of layer.
    each = [one for one in rope.values() if isinstance(one, dict)] or [rope]
    stretched = [one for one in each if one.get("rope_type") in ("dynamic", "longrope")]
    if not stretched:
        return None
    usual = getattr(text, "original_max_position_embeddings", 0) or text.max_position_embeddings
    return min(int(one.get("original_max_position_embeddings") or usual) for one in stretched)


def _true(
    loaded: Loaded,
    rows: Sequence[NDArray[Any]],
    plain: Sequence[torch.Tensor],
    way: BatchingMode,
    after: After | None,
) -> bool:
    """Whether a batch run this way gives every row its own logits."""
    if way.batching == "packed" and not _may_pack(loaded.model.config.get_text_config()):
        return False
    try:
        batch = _logits(loaded, rows, way, after)
    except Exception as error:  # a model of another make: whatever it trips over
        # want of memory says nothing of the model: another time it would be packed, to other bits
        if way.batching != "packed" or OutOfMemory.of(error):
            raise
        return False
    allowed = _BATCH.get(loaded.dtype, _BATCH_NARROW)
    return all(_close(found, one, allowed) for found, one in zip(batch, plain, strict=True))


def _may_pack(config: Any) -> bool:
    """False for attention whose reach the probe's short rows cannot show."""
    kinds = set(getattr(config, "layer_types", None) or ())
    return kinds <= {"full_attention", "sliding_attention"} and not getattr(
        config, "attention_chunk_size", None
    )


def _logits(
    loaded: Loaded, rows: Sequence[NDArray[Any]], way: BatchingMode, after: After | None = None
) -> list[torch.Tensor]:
    """[t, v] of every row."""
    states, base = states_of(loaded.model, loaded.device, rows, way)
    if after is not None and way.lean:
        states = after(loaded.model.get_output_embeddings()(states))
    return [states[start : start + len(row)] for start, row in zip(base, rows, strict=True)]


def _split(loaded: Loaded, row: NDArray[Any], plain: torch.Tensor) -> After | None:
    """What turns the head's output into the model's logits; None where body and head stick."""
    model = loaded.model
    if model.get_output_embeddings() is None or model.base_model is model:
        return None
    gaps = {}
    for after in afters(model.config.get_text_config()):
        try:
            [apart] = _logits(loaded, [row], BatchingMode("padded", True), after)
        except (TypeError, ValueError, AttributeError):  # a body of another make
            return None
        gaps[after] = _gap(apart, plain)
    # the nearest: where logits are small, one without the model's soft cap is near as well
    best = min(gaps, key=lambda after: np.nan_to_num(gaps[after]))
    return None if gaps[best] > _HEAD.get(plain.dtype, _HEAD_NARROW) else best


def _chosen(loaded: Loaded, way: BatchingMode, after: After | None) -> ModelLayout:
    if loaded.precision == "int8":
        twin = prepare(loaded, None if after is plain_logits else after)
        head = twin.head if way.lean and twin.head is not None else WholeHead()
        return ModelLayout(way, twin.model, head)
    if after is None:
        return ModelLayout(way, loaded.model, WholeHead())
    tiled = TiledHead(loaded.model.get_output_embeddings(), after, loaded.device)
    return ModelLayout(way, loaded.model, tiled)


def _close(found: torch.Tensor, plain: torch.Tensor, allowed: float) -> bool:
    # not <=, so that nan logits (a broken model) pass here and end as `nonfinite` rows
    return not _gap(found, plain) > allowed


def _gap(found: torch.Tensor, plain: torch.Tensor) -> float:
    """Relative difference of logits [t, v], root mean square.

    What all logits of a token share says nothing, and in some models dwarfs what differs.
    """
    if found.shape != plain.shape or not _same_holes(found, plain):
        return float("inf")
    found, plain = (each.float().nan_to_num(0.0, 0.0, 0.0) for each in (found, plain))
    both = (found - plain, plain)
    off, size = (each - each.mean(dim=-1, keepdim=True) for each in both)
    return float(off.square().mean().sqrt() / size.square().mean().sqrt())


def _same_holes(found: torch.Tensor, plain: torch.Tensor) -> bool:
    """Whether what is no number (ids that a model rules out, a broken model) is so in both."""
    hole = ~torch.isfinite(plain)
    if not hole.any():
        return bool(torch.isfinite(found).all())
    return torch.equal(found.nan_to_num(0.0)[hole], plain.nan_to_num(0.0)[hole]) and bool(
        torch.isfinite(found[~hole]).all()
    )


def _probe_rows(loaded: Loaded) -> list[NDArray[np.int64]]:
    """Three rows, the longest first (beyond a short sliding window), with ids from everywhere."""
    config = loaded.model.config.get_text_config()
    reach = getattr(config, "sliding_window", None) or 0
    longest = 9 if reach + 9 > _LONGEST_PROBE else reach + 9
    longest = min(longest, loaded.window or longest)
    draw = np.random.default_rng(0).integers(0, int(config.vocab_size), size=(3, longest))
    return [draw[i, : max(longest - 3 * i, 1)] for i in range(3)]
