"""Remote code: off unless allowed, then pinned and recorded; hub models by their commit."""

import json
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotfish import models, remote_code
from pilotfish.errors import UsageError
from pilotfish.models.provenance import _commit
from tests.tiny.models import tiny_llama

COMMIT, OTHER = secrets.token_hex(20), secrets.token_hex(20)  # code is kept by its commit
CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path({canary!r}).touch()


class OwnConfig(LlamaConfig):
    model_type = "own"


class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


def own_model(folder: Path, canary: Path) -> Path:
    """A whole model whose architecture only its own.py knows; the code leaves a canary."""
    tiny_llama(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own",
        "architectures": ["OwnModel"],
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(CODE.format(canary=str(canary)))
    return folder


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "ran"


@pytest.fixture
def own(tmp_path: Path, canary: Path) -> str:
    return str(own_model(tmp_path / "own-model", canary))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A hub cache as a download leaves it, with one empty repository: tests/own."""
    import huggingface_hub.constants as constants

    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    repository = cache / "models--tests--own"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "snapshots").mkdir()
    _commit.cache_clear()
    yield repository
    _commit.cache_clear()


def test_code_is_not_run_unless_allowed(own: str, canary: Path) -> None:
    with pytest.raises(UsageError, match="brings its own code, which is not run") as refused:
        models.load(own)
    assert "--trust-remote-code" in str(refused.value.hint)
    assert not canary.exists()


def test_allowed_code_runs_and_is_recorded(own: str, canary: Path) -> None:
    with remote_code.allowing(True):
        loaded = models.load(own, device="cpu")
        assert models.count_parameters(own) == loaded.parameters
    assert canary.exists()
    assert type(loaded.model).__name__ == "OwnModel"
    assert loaded.origin == {"remote_code": True}
    assert not remote_code.allowed()
    with pytest.raises(UsageError, match="brings its own code"):
        models.load(own)


def test_the_code_is_part_of_what_names_the_model(own: str) -> None:
    without = models.model_digest(own)
    with remote_code.allowing(True):
        trusted = models.identify(own)
        (Path(own) / "own.py").write_text((Path(own) / "own.py").read_text() + "\nCHANGED = 1\n")
        changed = models.identify(own)
    assert len({without, trusted, changed}) == 3
    assert models.model_digest(own) == without


def test_asking_changes_nothing_for_a_model_without_code(tmp_path: Path) -> None:
    plain = str(tiny_llama(tmp_path / "plain"))
    before = models.load(plain, device="cpu")
    with remote_code.allowing(True):
        after = models.load(plain, device="cpu")
    assert (after.digest, after.origin) == (before.digest, {})


def test_code_of_another_repository_is_refused_even_if_allowed(own: str, canary: Path) -> None:
    config = json.loads((Path(own) / "config.json").read_text())
    config["auto_map"]["AutoConfig"] = "tests/elsewhere--own.OwnConfig"
    (Path(own) / "config.json").write_text(json.dumps(config))
    with (
        remote_code.allowing(True),
        pytest.raises(UsageError, match=r"another repository \(tests/els"),
    ):
        models.load(own)
    assert not canary.exists()


def test_a_hub_model_is_pinned_to_the_commit_it_is_at(hub: Path, tmp_path: Path) -> None:
    tiny_llama(hub / "snapshots" / COMMIT)
    first = models.load("tests/own", device="cpu")
    assert first.origin == {"revision": COMMIT}
    assert first.digest == models.identify("tests/own")
    shutil.copytree(hub / "snapshots" / COMMIT, hub / "snapshots" / OTHER)
    (hub / "refs" / "main").write_text(OTHER)
    assert models.load("tests/own", device="cpu").digest == first.digest  # one process, one commit
    _commit.cache_clear()
    second = models.load("tests/own", device="cpu")
    assert second.origin == {"revision": OTHER}
    assert second.digest != first.digest


def test_code_of_a_hub_model_is_allowed_and_pinned_alike(hub: Path, canary: Path) -> None:
    own_model(hub / "snapshots" / COMMIT, canary)
    with pytest.raises(UsageError, match="brings its own code"):
        models.load("tests/own")
    assert not canary.exists()
    with remote_code.allowing(True):
        loaded = models.load("tests/own", device="cpu")
        assert models.count_parameters("tests/own") == loaded.parameters
    assert canary.exists()
    assert loaded.origin == {"revision": COMMIT, "remote_code": True}
