"""Shared fixtures: where the real data lies, and tiny models built from configs."""

import atexit
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.figures import PASSED, reached  # noqa: F401
from tests.offline import sitecustomize as offline

if TYPE_CHECKING:
    from tests.experiments.worlds import World

# Tests never talk to a hub; set before transformers is imported anywhere.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Two workers on two cores: threads of tiny models would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Code that models bring is copied before it is run: not into the home of whoever tests.
if "HF_MODULES_CACHE" not in os.environ:
    _COPIED = tempfile.TemporaryDirectory(prefix="pilotfish-modules-")
    atexit.register(_COPIED.cleanup)
    os.environ["HF_MODULES_CACHE"] = _COPIED.name
# Every process that a test starts is kept off the network as well.
_WALL = str(Path(offline.__file__).parent)
if _WALL not in (_PATHS := os.environ.get("PYTHONPATH", "").split(os.pathsep)):
    os.environ["PYTHONPATH"] = os.pathsep.join([_WALL, *filter(None, _PATHS)])


@pytest.fixture(autouse=True)
def no_network() -> Generator[None]:
    """Fail a test in which anything wanted to leave this machine, even if the refusal was caught.

    A test of the refusal itself takes its own out of `offline.refused`.
    """
    offline.refused.clear()
    yield
    assert offline.refused == [], "something tried to reach the network"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data; skips, saying so, when it is absent."""
    fallback = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("PILOTFISH_DATA", fallback))
    if not folder.is_dir():
        pytest.skip("real data absent: set PILOTFISH_DATA to its folder")
    return folder


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
def world(tmp_path: Path, models: tuple[str, str]) -> "World":
    from tests.experiments.worlds import World

    return World(tmp_path, *models)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Remember whether a test passed: figures of one that failed are not kept."""
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    return report
