"""How many tokens a forward pass may hold, from the memory that is free now."""

from pathlib import Path

import torch

from pilotfish.models import Loaded

# A CPU gains nothing beyond this (its caches are full), and a GPU little beyond the other.
_MOST = {"cpu": 2048}
_MOST_ELSEWHERE = 65536
_LEAST = 64
_LAPTOP = 4 * 2**30
_SHARE = 0.4  # of the free memory: the budget must also fit tomorrow, next to other processes


def find_budget(loaded: Loaded) -> int:
    """Return tokens per forward pass: a power of two that part of the free memory surely holds.

    A run finds it once and keeps it in run.json, because the last digits of scores depend on it.
    """
    device = loaded.device
    most = _MOST.get(device.type, _MOST_ELSEWHERE)
    fits = int(_SHARE * free_bytes(device) / bytes_per_token(loaded))
    budget = _LEAST
    while budget * 2 <= min(most, fits):
        budget *= 2
    return budget


def bytes_per_token(loaded: Loaded) -> int:
    """Return about how much memory one token takes at the widest point of a forward pass."""
    config = loaded.model.config.get_text_config()
    hidden = int(config.hidden_size)
    names = ("intermediate_size", "ffn_dim", "n_inner")
    widths = (getattr(config, name, None) for name in names)
    wide = next((int(width) for width in widths if width), 4 * hidden)
    element = torch.empty((), dtype=loaded.dtype).element_size()
    # residual, normed, q, k, v, output and their copies for attention; up, gate, activated
    return element * (12 * hidden + 4 * wide)


def free_bytes(device: torch.device) -> int:
    """Return the bytes free on a GPU, else in the machine's memory."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:  # not Linux: assume a laptop
        return _LAPTOP
    known = dict(line.split(":", 1) for line in text.splitlines())
    return int(known["MemAvailable"].split()[0]) * 1024
