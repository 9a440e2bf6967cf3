"""Tiny models on disk, made once."""

from pathlib import Path

import pytest
import torch

from tests.tiny.models import tiny_gpt2, tiny_llama


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_llama(tmp_path_factory.mktemp("models") / "llama"))


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Another model, same tokenizer."""
    return str(tiny_llama(tmp_path_factory.mktemp("models") / "teacher", seed=1, hidden=16))


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_gpt2(tmp_path_factory.mktemp("models") / "gpt2"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with another tokenizer."""
    return str(tiny_llama(tmp_path_factory.mktemp("models") / "stranger", chat=True))


@pytest.fixture(scope="session")
def short_sighted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that reads only eight tokens."""
    folder = tmp_path_factory.mktemp("models") / "short"
    return str(tiny_llama(folder, hidden=16, window=8))


def weights(folder: Path) -> bytes:
    """The bytes of a saved model."""
    return (folder / "model.safetensors").read_bytes()
