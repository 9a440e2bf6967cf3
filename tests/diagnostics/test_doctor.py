"""doctor names the number formats and executors of this machine, and the line for what lacks."""

import pytest

from pilotfish.diagnostics import doctor
from pilotfish.engine.int8 import native


@pytest.mark.parametrize(("compiler", "expected"), [(True, "compiled"), (False, "no C compiler")])
def test_int8_names_whether_its_kernels_were_compiled(
    monkeypatch: pytest.MonkeyPatch, compiler: bool, expected: str
) -> None:
    monkeypatch.setattr("pilotfish.number_formats.int8_supported", lambda: True)
    known = native.CompiledKernels(None) if compiler else native.TorchKernels()
    monkeypatch.setattr(native, "kernels", lambda: known)
    assert expected in doctor.examine()["precisions"]


def test_a_cpu_without_dot_products_has_no_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilotfish.number_formats.int8_supported", lambda: False)
    assert "no int8 (it needs" in doctor.examine()["precisions"]


def test_a_missing_ray_is_named_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    known = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "ray" else known(name))
    assert doctor.examine()["executors"].startswith("local, ranks")
    assert "pip install 'pilotfish[ray]'" in doctor.examine()["executors"]
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "torch" else "1")
    assert "torch is not installed" in doctor.examine()["precisions"]
