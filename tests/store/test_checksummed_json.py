"""Sealed JSON: what was written is read back, and any flipped bit is noticed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.errors import DamagedRun
from pilotfish.store.commit import checked_json, with_checksum

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text().filter(lambda key: key != "seal"), VALUES, max_size=4))
def test_what_was_sealed_is_read_back(value: dict[str, Any]) -> None:
    data = with_checksum(value)
    assert (
        checked_json(data, "x")
        == value
        == {k: v for k, v in json.loads(data).items() if k != "seal"}
    )
    assert with_checksum(checked_json(data, "x")) == data


def test_every_flipped_bit_of_a_sealed_file_is_noticed() -> None:
    data = with_checksum(
        {"rows": 10, "seal of": ['\n  "seal": ""'], "share": 1e-05, "ä": {"seal": ""}}
    )
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedRun, match="x is not"):
            checked_json(bytes(changed), "x")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"a": 1}', b'{\n  "seal": ""\n}\n', b"\xff"])
def test_what_was_never_sealed_is_refused(data: bytes) -> None:
    with pytest.raises(DamagedRun):
        checked_json(data, "x")


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9, 0.99])
def test_a_file_cut_short_is_refused(cut: float) -> None:
    data = with_checksum({"a": list(range(9)), "z": "last"})
    with pytest.raises(DamagedRun):
        checked_json(data[: int(cut * len(data))], "x")
