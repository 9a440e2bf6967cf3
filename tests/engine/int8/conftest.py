"""Skips, saying so, where the CPU has no int8 dot products."""

import pytest

from pilotfish.engine.int8 import native as module
from pilotfish.engine.int8.native import Compiled, Kernels
from pilotfish.engine.int8.plain import Plain
from pilotfish.number_formats import int8_supported


@pytest.fixture(autouse=True, scope="session")
def _able() -> None:
    if not int8_supported():
        pytest.skip("this CPU has no int8 dot products")


@pytest.fixture(scope="session")
def compiled() -> Compiled:
    found = module.kernels()
    if not isinstance(found, Compiled):
        pytest.skip("no C compiler here")
    return found


@pytest.fixture(params=["torch", "compiled"])
def each(request: pytest.FixtureRequest) -> Kernels:
    found = Plain() if request.param == "torch" else request.getfixturevalue("compiled")
    assert isinstance(found, Plain)
    return found
