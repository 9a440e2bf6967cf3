"""doctor: report what this machine and installation can do."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PARTS = {
    "numpy": ("selection", ""),
    "pyarrow": ("run folders", ""),
    "torch": ("models", "models"),
    "transformers": ("models", "models"),
    "safetensors": ("models", "models"),
    "accelerate": ("training", "train"),
    "peft": ("LoRA", "train"),
    "datasets": ("hub datasets", "hub"),
    "ray": ("several machines", "ray"),
    "trl": ("training exported rows", "trl"),
    "lm_eval": ("evaluation by lm-evaluation-harness", "lm-eval"),
}


def examine() -> dict[str, Any]:
    """Examine the installation and the machine.

    Returns:
        `parts` (each package with its version, or the pip line that installs it), and the device,
        number formats, executors, threads, memory in GiB, and offline switches.
    """
    parts = []
    for name, (purpose, extra) in _PARTS.items():
        found = _version(name)
        hint = None if found else _hint(extra)
        parts.append(
            {"name": name, "ok": found is not None, "version": found, "hint": hint, "for": purpose}
        )
    try:
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        memory = None
    offline = [key for key in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE") if os.environ.get(key)]
    return {
        "parts": parts,
        "python": platform.python_version(),
        "device": _device(),
        "precisions": _precisions(),
        "executors": "local, ranks, " + ("ray" if _version("ray") else f"no ray: {_hint('ray')}"),
        "threads": os.cpu_count(),
        "memory_gib": memory,
        "offline": ", ".join(offline) or "no",
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device() -> str:
    if _version("torch") is None:
        return "unknown (torch is not installed)"
    import torch

    if torch.cuda.is_available():
        return f"cuda ({torch.cuda.get_device_name()})"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _precisions() -> str:
    """Name the number formats that scoring can use here, and why it cannot use the others."""
    if _version("torch") is None:
        return "unknown (torch is not installed)"
    import torch

    from pilotfish.number_formats import int8_supported

    bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    int8 = "int8"
    if not int8_supported():
        int8 = "no int8 (it needs a CPU with int8 dot products, and a torch that uses them)"
    elif _version("transformers") is not None:
        from pilotfish.engine.int8.native import kernels

        speed = {
            "compiled": "kernels compiled",
            "torch": "slower: no C compiler was found to build on",
        }
        int8 = f"int8 ({speed[kernels().name]})"
    return f"fp32; bf16 ({'this GPU has it' if bf16 else 'runs, but no GPU has it'}); {int8}"


def _hint(extra: str) -> str:
    return f"pip install 'pilotfish[{extra}]'"
