"""doctor: what this machine and installation can do."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PARTS = {
    "numpy": ("picking", ""),
    "pyarrow": ("run folders", ""),
    "torch": ("models", "models"),
    "transformers": ("models", "models"),
    "safetensors": ("models", "models"),
    "accelerate": ("training", "train"),
    "peft": ("LoRA", "train"),
    "datasets": ("hub datasets", "hub"),
    "ray": ("several machines", "ray"),
}


def examine() -> dict[str, Any]:
    """Versions, the pip line of what is missing, device, threads, memory, offline switches."""
    parts = []
    for name, (purpose, extra) in _PARTS.items():
        found = _version(name)
        hint = None if found else f"pip install 'pilotfish[{extra}]'"
        parts.append(
            {"name": name, "ok": found is not None, "version": found, "hint": hint, "for": purpose}
        )
    offline = [key for key in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE") if os.environ.get(key)]
    return {
        "parts": parts,
        "python": platform.python_version(),
        "device": _device(),
        "threads": os.cpu_count(),
        "memory_gib": _memory(),
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


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None
