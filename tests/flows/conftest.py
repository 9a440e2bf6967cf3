"""A fresh tiny world for every test; its models are made once."""

from pathlib import Path

import pytest

from tests.flows.worlds import World


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """(weak, strong): random models with one tokenizer, so that distillation is legal too."""
    from tests.tiny.models import tiny_llama

    folder = tmp_path_factory.mktemp("models")
    return (
        str(tiny_llama(folder / "weak", seed=1, hidden=16, layers=1)),
        str(tiny_llama(folder / "strong", seed=2, hidden=16, layers=1)),
    )


@pytest.fixture
def world(tmp_path: Path, models: tuple[str, str]) -> World:
    return World(tmp_path, *models)
