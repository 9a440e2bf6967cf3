"""Number formats: their names, their dtypes, and whether a device can compute in int8.

int8 weights are loaded as fp32 and quantized by `engine.int8`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilotfish.errors import UsageError

if TYPE_CHECKING:
    import torch

# Exact sums of int8 products, by torch's names: x86 first, then Arm.
_DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "dot", "neon_dot", "dotprod", "i8mm")


def pick_dtype(precision: str, device: "torch.device") -> "torch.dtype":
    """Return the dtype of weights and activations for "auto", "fp32", "bf16" or "int8".

    Raises:
        UsageError: Unknown precision, or one that the device cannot compute in.
    """
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
    """Return the precision of a loaded model: "fp32", "bf16", "fp16" or "int8", never "auto"."""
    words = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
    plain = str(dtype).removeprefix("torch.")
    return "int8" if precision == "int8" else words.get(plain, plain)


def int8_supported() -> bool:
    """Return whether this CPU sums int8 products exactly and fast, and torch can use that.

    Without such instructions the kernels fall back to loops or to sums that saturate at 16 bits.
    """
    import torch

    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # since 2.11
    has_library: bool = torch._C._has_mkldnn
    return has_library and any(capabilities.get(name) for name in _DOT_PRODUCTS)


def check_int8(device: "torch.device") -> None:
    """Check that a device can compute in int8.

    Raises:
        UsageError: It cannot.
    """
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
