"""An int8 twin of a model: the same modules, with the linear ones of the body swapped."""

import copy
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from pilotfish.engine.int8.linear import WIDEST, Int8Linear
from pilotfish.engine.int8.mlp import Int8Mlp, recognise
from pilotfish.errors import UsageError

_LEAST = 16  # rows or columns below which rounding costs more than it saves
# What picks experts: a choice, which a small error turns into another one.
_ROUTERS = {"gate", "router", "shared_expert_gate"}
_SHARE = 0.5  # of the body's matrices that must be narrowed for int8 to be worth its name


class QuantizedModel(NamedTuple):
    """The twin, and the names of linear layers that stayed in fp32."""

    model: Any
    skipped: tuple[str, ...]


def quantize(model: Any) -> QuantizedModel:
    """A twin of `model` that shares its tensors, with int8 linear layers in the decoder body.

    `model` is left as it is. The output head and the embeddings stay in fp32. Raises UsageError
    where the body keeps most of its weights in something else than linear layers.
    """
    shared = {id(each): each for each in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, shared)
    skipped: list[str] = []
    _swap(twin, twin.get_output_embeddings(), "", skipped)
    _check(model, twin)
    return QuantizedModel(twin, tuple(skipped))


def parts(module: nn.Module) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    """Weight [n, k] and bias of a linear layer, None of anything else."""
    if type(module) is nn.Linear:
        return module.weight, module.bias
    if type(module) is Conv1D:  # [k, n], as GPT-2 keeps them
        weight, bias = module.get_parameter("weight"), module.get_parameter("bias")
        return weight.t(), bias
    return None


def _swap(parent: nn.Module, head: nn.Module | None, path: str, skipped: list[str]) -> None:
    for name, child in list(parent.named_children()):
        where = f"{path}{name}"
        linear = parts(child)
        if child is head:
            continue
        if linear is not None:
            if _fits(name, linear[0]):
                setattr(parent, name, Int8Linear(*linear))
            else:
                skipped.append(where)
            continue
        make = recognise(child, parts)
        if make is not None and all(_fits("", w) for w, _ in (*make.wide, make.down)):
            setattr(parent, name, Int8Mlp(make))
        else:
            _swap(child, head, f"{where}.", skipped)


def _fits(name: str, weight: torch.Tensor) -> bool:
    return name not in _ROUTERS and min(weight.shape) >= _LEAST and weight.shape[1] < WIDEST


def _check(model: Any, twin: Any) -> None:
    """Raises UsageError where too little of the body was narrowed."""
    kept = {id(each) for each in twin.parameters()}
    spared = {id(each.weight) for each in model.modules() if isinstance(each, nn.Embedding)}
    if (head := model.get_output_embeddings()) is not None:
        spared.add(id(head.weight))
    matrices = [p for p in model.parameters() if p.dim() > 1 and id(p) not in spared]
    narrowed = sum(p.numel() for p in matrices if id(p) not in kept)
    whole = sum(p.numel() for p in matrices)
    if narrowed < _SHARE * whole or not whole:
        raise UsageError(
            f"precision int8 would narrow only {narrowed:,} of the {whole:,} weights of "
            f"{type(model).__name__}: the rest is not in linear layers",
            hint="use fp32 for this model",
        )
