"""The key of a measurement: a hash of everything its numbers depend on."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
import transformers

from pilotfish.engine.int8.native import kernels
from pilotfish.models import Loaded
from pilotfish.records import Need
from pilotfish.tokenization import template_digest

SIGNAL_FORMAT = 1
"""Version of the measured numbers and of the files that hold them; part of every signal's key.

Raise it by one in a change after which the same rows and model give another signal: other token
ids, scored tokens, values, reasons, batches or columns. Shards measured before are then never
reused. Do not raise it when files move, names change, or a signal is added: users keep their
shards. tests/goldens/signals.json holds the numbers of this version, and a test compares them.
"""


def stage_spec(
    fingerprint: str, need: Need, loaded: Loaded, *, max_length: int, token_budget: int
) -> dict[str, Any]:
    """Return everything the numbers of one need depend on, readable, for the manifest.

    Args:
        fingerprint: Of the pool.
        need: What is measured.
        loaded: The model.
        max_length: Tokens per row.
        token_budget: Tokens per batch.
    """
    return {
        "pool": fingerprint,
        "need": need.name,
        "model": loaded.digest,
        "tokenizer": loaded.tokenizer_digest,
        "template": template_digest(loaded.tokenizer, need.text),
        "max_length": max_length,
        "token_budget": token_budget,
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "precision": loaded.precision,
        "kernels": kernels().name if loaded.precision == "int8" else None,
        "device": loaded.device.type,
        # instruction sets sum in different orders, and have different int8 products
        "cpu": torch.backends.cpu.get_cpu_capability() if loaded.device.type == "cpu" else None,
        # on a CPU, the number of threads splits the sums inside one product: other bits
        "threads": torch.get_num_threads() if loaded.device.type == "cpu" else None,
        "attention": loaded.attention,
        "packages": {each.__name__: each.__version__ for each in (torch, transformers)},
        "format": SIGNAL_FORMAT,
    }


def stage_key(spec: Mapping[str, Any]) -> str:
    """Return a folder name: the need, then 16 hex digits over the whole spec."""
    payload = json.dumps(dict(spec), sort_keys=True).encode()
    return f"{spec['need']}-{hashlib.sha256(payload).hexdigest()[:16]}"
