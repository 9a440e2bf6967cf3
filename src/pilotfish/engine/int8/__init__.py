"""int8 on the CPU: the linear layers of a causal model as integer products with fp32 around them.

Weights carry one scale per output channel, activations one per token, found as they come. Integer
sums are exact and every row is rounded by itself, so its numbers do not depend on its neighbours.
"""

from dataclasses import dataclass
from typing import Any

import torch

from pilotfish.engine.int8.head import After, Int8Head
from pilotfish.engine.int8.linear import Int8Linear
from pilotfish.engine.int8.mlp import Int8Mlp
from pilotfish.engine.int8.native import kernels
from pilotfish.engine.int8.swap import QuantizedModel, quantize
from pilotfish.models import Loaded
from pilotfish.number_formats import check_int8, int8_supported

supported = int8_supported


@dataclass(frozen=True)
class Prepared:
    """An int8 twin of a loaded model.

    model: shares every tensor but the narrowed ones with the fp32 model, which stays as it was.
    head: gives the facets of tokens from the states of `model.base_model`; None where the model
    has no output head of its own. skipped: names of linear layers left in fp32.
    kernels: "compiled" or "torch"; numbers of the two differ by rounding.
    """

    model: Any
    head: Int8Head | None
    skipped: tuple[str, ...]
    kernels: str


def prepare(loaded: Loaded, after: After | None = None) -> Prepared:
    """Narrow the body and the output head of a model loaded in fp32.

    `after` is what the model does to logits after its head (soft cap, scale); None for nothing.
    Raises UsageError where the device, the CPU or the model cannot.
    """
    check_int8(loaded.device)
    with torch.inference_mode():
        swapped = quantize(loaded.model)
        head = loaded.model.get_output_embeddings()
        return Prepared(
            model=swapped.model,
            head=None if head is None else Int8Head(head, after),
            skipped=swapped.skipped,
            kernels=kernels().name,
        )


__all__ = [
    "Int8Head",
    "Int8Linear",
    "Int8Mlp",
    "Prepared",
    "QuantizedModel",
    "prepare",
    "quantize",
    "supported",
]
