"""Skips, saying so, where the CPU has no int8 dot products."""

import pytest

from pilotfish.engine.int8 import native as module
from pilotfish.engine.int8.native import CompiledKernels
from pilotfish.engine.int8.plain import TorchKernels
from pilotfish.number_formats import int8_supported


@pytest.fixture(autouse=True, scope="session")
def _able() -> None:
    if not int8_supported():
        pytest.skip("this CPU has no int8 dot products")


@pytest.fixture(scope="session")
def compiled() -> CompiledKernels:
    found = module.kernels()
    if not isinstance(found, CompiledKernels):
        pytest.skip("no C compiler here")
    return found


@pytest.fixture(params=["torch", "compiled"])
def each(request: pytest.FixtureRequest) -> TorchKernels:
    found = TorchKernels() if request.param == "torch" else request.getfixturevalue("compiled")
    assert isinstance(found, TorchKernels)
    return found
