"""The name of a measurement: everything its numbers depend on, hashed."""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers

from pilotfish import encode, models, signals
from pilotfish._version import __version__
from pilotfish.encode import template_digest
from pilotfish.engine.int8.native import kernels
from pilotfish.models import Loaded
from pilotfish.records import Need


def stage_spec(
    fingerprint: str, need: Need, loaded: Loaded, *, max_length: int, token_budget: int
) -> dict[str, Any]:
    """What decides the numbers of one need over one pool, in plain words for the manifest."""
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
        # instruction sets sum in other orders, and have other int8 products
        "cpu": torch.backends.cpu.get_cpu_capability() if loaded.device.type == "cpu" else None,
        # sums inside one product are cut by the number of threads: other bits on a CPU
        "threads": torch.get_num_threads() if loaded.device.type == "cpu" else None,
        "attention": loaded.attention,
        "packages": {each.__name__: each.__version__ for each in (torch, transformers)},
        "pilotfish": __version__,
        "code": code_version(),
    }


def stage_key(spec: Mapping[str, Any]) -> str:
    """A folder name: the need, then 16 hex digits over the whole spec."""
    payload = json.dumps(dict(spec), sort_keys=True).encode()
    return f"{spec['need']}-{hashlib.sha256(payload).hexdigest()[:16]}"


@cache
def code_version() -> str:
    """sha256 over the sources that decide numbers: a changed line never reuses old shards."""
    digest, here = hashlib.sha256(), Path(__file__).parent
    rooms = (encode, models, signals)
    folders = [here, here / "int8", *(Path(room.__path__[0]) for room in rooms)]
    for folder in folders:
        for path in sorted((*folder.glob("*.py"), *folder.glob("*.c"))):
            digest.update(f"{folder.name}/{path.name}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
