"""The token budget follows the memory that is free, and nothing else."""

import pytest

from pilotfish.engine import batches
from tests.engine.shapes import build


def budget(monkeypatch: pytest.MonkeyPatch, free: int) -> int:
    monkeypatch.setattr(batches, "free_bytes", lambda _: free)
    return batches.find_budget(build("llama"))


def test_plenty_of_memory_gives_the_most_a_cpu_gains_from(monkeypatch: pytest.MonkeyPatch) -> None:
    assert budget(monkeypatch, 10**12) == 2048


def test_less_memory_gives_a_smaller_power_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    # 12 x 32 + 4 x 64 floats a token: 2,560 bytes; .4 of 3.2 MB holds 500 of them
    assert batches.bytes_per_token(build("llama")) == 2560
    assert budget(monkeypatch, 3_200_000) == 256


def test_the_last_resort_is_a_small_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert budget(monkeypatch, 0) == 64


def test_every_shape_has_a_size() -> None:
    for shape in ("gpt2", "opt", "bloom", "gemma3"):
        assert batches.bytes_per_token(build(shape)) >= 2560


def test_the_machine_has_memory_free() -> None:
    assert batches.free_bytes(build("llama").device) > 10**6
