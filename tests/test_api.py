"""The Python API: its names are listed, sorted and documented."""

import inspect

import pytest

import pilotfish
from pilotfish import api


def test_names_are_sorted_and_exported() -> None:
    assert api.__all__ == sorted(api.__all__)
    assert set(dir(pilotfish)) == {*api.__all__, "__version__"}
    assert all(getattr(pilotfish, name) is getattr(api, name) for name in api.__all__)


@pytest.mark.parametrize("name", [name for name in api.__all__ if name.islower()])
def test_every_call_documents_its_arguments_and_shows_an_example(name: str) -> None:
    call = getattr(api, name)
    text = inspect.getdoc(call) or ""
    assert all(part in text for part in ("Args:", "Returns:", "Raises:", "Example:"))
    missing = [each for each in inspect.signature(call).parameters if f"    {each}: " not in text]
    assert not missing
