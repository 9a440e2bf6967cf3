"""An int8 twin of a causal model: the same modules, with linear layers and head replaced."""

import copy
from typing import Any, NamedTuple

import torch
from torch import nn

from pilotfish.engine.head import LogitTransform
from pilotfish.engine.int8.head import Int8Head
from pilotfish.engine.int8.linear import WIDEST, Int8Linear, weights_of
from pilotfish.engine.int8.mlp import Int8Mlp, recognise
from pilotfish.errors import UsageError
from pilotfish.models import Loaded
from pilotfish.number_formats import check_int8

_LEAST = 16  # rows or columns below which rounding costs more than it saves
# Routers choose experts: a small error can become another choice.
_ROUTERS = {"gate", "router", "shared_expert_gate"}
_SHARE = 0.5  # of the weights in the body's matrices: below this, int8 is refused


class Int8Model(NamedTuple):
    """An int8 twin of a loaded model.

    model: shares all tensors but the quantised ones with the fp32 model, which is not changed.
    head: computes facets from the states of `model.base_model`; None where the model has no
    output head of its own. skipped: names of the linear layers that stay in fp32.
    """

    model: Any
    head: Int8Head | None
    skipped: tuple[str, ...]


def quantize(loaded: Loaded, transform: LogitTransform | None = None) -> Int8Model:
    """Quantise the body and the output head of a model loaded in fp32.

    Args:
        loaded: The model, on a CPU.
        transform: What the model does to logits after its head (soft cap, scale), if anything.

    Raises:
        UsageError: The device or the CPU cannot compute in int8, or most of the body's weights
            are not in linear layers.
    """
    check_int8(loaded.device)
    with torch.inference_mode():
        twin, skipped = quantize_body(loaded.model)
        head = loaded.model.get_output_embeddings()
        return Int8Model(twin, None if head is None else Int8Head(head, transform), skipped)


def quantize_body(model: Any) -> tuple[Any, tuple[str, ...]]:
    """Return a twin of `model` with int8 layers in its decoder body, and the layers skipped.

    The twin shares the model's tensors; the output head and the embeddings stay in fp32.

    Raises:
        UsageError: Most of the body's weights are not in linear layers.
    """
    shared = {id(each): each for each in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, shared)
    skipped: list[str] = []
    _replace_layers(twin, twin.get_output_embeddings(), "", skipped)
    kept = {id(each) for each in twin.parameters()}
    not_body = {id(each.weight) for each in model.modules() if isinstance(each, nn.Embedding)}
    if (head := model.get_output_embeddings()) is not None:
        not_body.add(id(head.weight))
    matrices = [p for p in model.parameters() if p.dim() > 1 and id(p) not in not_body]
    narrowed = sum(p.numel() for p in matrices if id(p) not in kept)
    whole = sum(p.numel() for p in matrices)
    if narrowed < _SHARE * whole or not whole:
        raise UsageError(
            f"precision int8 would quantise only {narrowed:,} of the {whole:,} weights of "
            f"{type(model).__name__}: the rest is not in linear layers",
            hint="use fp32 for this model",
        )
    return twin, tuple(skipped)


def _replace_layers(
    parent: nn.Module, head: nn.Module | None, path: str, skipped: list[str]
) -> None:
    """Replace feed-forward blocks and linear layers below `parent`, recursively."""
    for name, child in list(parent.named_children()):
        if child is head:
            continue
        linear = weights_of(child)
        if linear is not None:
            if _fits(name, linear[0]):
                setattr(parent, name, Int8Linear(*linear))
            else:
                skipped.append(f"{path}{name}")
            continue
        structure = recognise(child)
        if structure and all(_fits("", w) for w, _ in (*structure.wide, structure.down)):
            setattr(parent, name, Int8Mlp(structure))
        else:
            _replace_layers(child, head, f"{path}{name}.", skipped)


def _fits(name: str, weight: torch.Tensor) -> bool:
    return name not in _ROUTERS and min(weight.shape) >= _LEAST and weight.shape[1] < WIDEST
