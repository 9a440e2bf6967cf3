"""Shared fixtures: where the real data lies, and tiny models built from configs."""

import os
from pathlib import Path

import pytest

# Tests never talk to a hub; set before transformers is imported anywhere.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Two workers on two cores: threads of tiny models would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data; skips, saying so, when it is absent."""
    fallback = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("PILOTFISH_DATA", fallback))
    if not folder.is_dir():
        pytest.skip("real data absent: set PILOTFISH_DATA to its folder")
    return folder
