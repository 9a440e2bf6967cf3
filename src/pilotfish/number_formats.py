"""The words for a number format, the dtype of the weights, and what a CPU must have for int8.

int8 weights are loaded as fp32 and narrowed by `engine.int8`, so both formats stand side by side.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilotfish.errors import UsageError

if TYPE_CHECKING:
    import torch

# Exact sums of int8 products, by torch's names: x86 first, then Arm.
_DOTS = ("avx512_vnni", "avx_vnni", "dot", "neon_dot", "dotprod", "i8mm")


def pick_dtype(precision: str, device: "torch.device") -> "torch.dtype":
    """The dtype of weights and activations. Raises UsageError for a format we do not have."""
    import torch

    if precision == "auto":
        has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if has_bf16 else torch.float32
    if precision == "int8":
        check_int8(device)
    known = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.float32}
    if precision not in known:
        raise UsageError(
            f"precision '{precision}' is not available", hint="use auto, fp32, bf16 or int8"
        )
    return known[precision]


def name_of(precision: str, dtype: "torch.dtype") -> str:
    """The word a model loaded as `precision` goes by: "fp32", "bf16" or "int8", never "auto"."""
    words = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
    plain = str(dtype).removeprefix("torch.")
    return "int8" if precision == "int8" else words.get(plain, plain)


def int8_supported() -> bool:
    """Whether this CPU sums products of int8 exactly and fast, and torch knows how to ask it to.

    Without such instructions the kernels fall back to loops or to sums that saturate at 16 bits.
    """
    import torch

    ask = getattr(torch.cpu, "get_capabilities", dict)  # since torch 2.11
    has: Mapping[str, Any] = ask()
    library: bool = torch._C._has_mkldnn
    return library and any(has.get(name) for name in _DOTS)


def check_int8(device: "torch.device") -> None:
    """Raises UsageError where int8 was asked for and this device or CPU cannot do it."""
    if device.type != "cpu":
        raise UsageError(
            f"precision int8 runs on the CPU only, not on {device.type}",
            hint="use bf16 or fp32 here",
        )
    if not int8_supported():
        raise UsageError(
            "precision int8 needs a CPU with int8 dot products (AVX-512 VNNI, AVX-VNNI or Arm "
            "dotprod), and this one has none that torch can use",
            hint="use fp32",
        )
