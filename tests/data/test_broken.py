"""Broken records: each is named with the right reason, and costs itself alone."""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.data.first_pass import parse_record
from pilotfish.data.formats import FormatMismatch
from pilotfish.data.readers.jsonl import MAX_DEPTH, RawRecord, parse_object, read_lines
from pilotfish.errors import DataError, UsageError
from pilotfish.store import Store
from tests.data.conftest import rows
from tests.reading import inspect, read, read_rows

Jsonl = Callable[..., Path]

BROKEN = {
    b'{"instruction": "\xff\xfe", "output": "a"}': "invalid_utf8",
    b'{"instruction": "a", "output": "b"': "invalid_json",
    b'{"instruction": "a", "output": "b"} x': "invalid_json",
    b"{'instruction': 'a', 'output': 'b'}": "invalid_json",
    b'{"instruction": "a\tb", "output": "b"}': "invalid_json",
    b'["instruction", "output"]': "not_object",
    b'"text"': "not_object",
    b'{"instruction": "a", "output": "b", "output": "c"}': "duplicate_key",
    b'{"instruction": "a", "output": "b", "m": {"k": 1, "k": 1}}': "duplicate_key",
    b'{"instruction": "a", "output": "b", "s": NaN}': "nonfinite_number",
    b'{"instruction": "a", "output": "b", "s": -Infinity}': "nonfinite_number",
    b'{"instruction": "a", "output": "b", "s": 1e999}': "nonfinite_number",
    b'{"instruction": "a", "output": "b", "s": 18446744073709551616}': "int_too_big",
    b'{"instruction": "a", "output": "b", "s": -9223372036854775809}': "int_too_big",
    b'{"instruction": "a", "output": "b", "s": ' + b"9" * 5000 + b"}": "int_too_big",
    b'{"instruction": "a", "output": "b", "s": ' + b"[" * 150 + b"]" * 150 + b"}": "too_deep",
    b'{"instruction": "a", "output": "b", "s": ' + b"[" * 9000 + b"]" * 9000 + b"}": "too_deep",
    b'{"instruction": "\\ud800", "output": "b"}': "lone_surrogate",
    b'{"instruction": "a", "output": "b", "\\udfff": 1}': "lone_surrogate",
    b'{"instruction": "a\\u0000", "output": "b"}': "nul_char",
    b'{"instruction": "a\x00", "output": "b"}': "nul_char",
    b'{"instruction": "a", "output": "b", "m": [["\\u0000"]]}': "nul_char",
    b'{"instruction": "a"}': "missing_field",
    b'{"instruction": "a", "output": null}': "missing_field",
    b'{"instruction": "a", "output": 3}': "wrong_type",
    b'{"instruction": ["a"], "output": "b"}': "wrong_type",
}


def quarantine_of(store: Store) -> list[dict[str, Any]]:
    text = (store.root / "pool/quarantine.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("line", BROKEN, ids=lambda line: line[:60].decode("ascii", "replace"))
def test_a_broken_line_has_its_reason(line: bytes, jsonl: Jsonl) -> None:
    data = jsonl([*rows(2), line, *rows(1)])
    found = inspect(data)
    assert found.quarantined == {BROKEN[line]: 1}
    assert found.rows == 3


@pytest.mark.parametrize(
    "line",
    [
        b'{"instruction": "\\ud83d\\ude00 \xe2\x80\xa8 \\u2028", "output": "\\u00e9"}',
        b'{"instruction": "a", "output": "b", "s": 18446744073709551615}',
        b'{"instruction": "a", "output": "b", "s": ' + b"[" * 99 + b"]" * 99 + b"}",
        b'{"instruction": "a", "output": "", "s": [{}, {}, {}]}   \r',
        b'{"instruction": "[[[[{{{{\\"", "output": "b", "s": 1e-400}',
    ],
)
def test_an_odd_line_that_is_right_stays(line: bytes, jsonl: Jsonl) -> None:
    data = jsonl([line, *rows(1)])
    found = read_rows(data)
    assert len(found.examples) == 2
    assert found.examples[0].raw.encode() == line


def test_all_kinds_at_once_are_quarantined_line_by_line(jsonl: Jsonl, store: Store) -> None:
    data = jsonl([*rows(3), *BROKEN, *rows(3)])
    pool = read(data, store, max_bad_rate=1)
    lines = quarantine_of(store)
    content = data.read_bytes()
    assert [line["reason"] for line in lines] == list(BROKEN.values())
    assert [line["row"] for line in lines] == list(range(3, 3 + len(BROKEN)))
    for line, broken in zip(lines, BROKEN, strict=True):
        start = line["byte_offset"]
        assert content[start : start + line["length"]] == broken
        assert line["sha256"] == hashlib.sha256(broken).hexdigest()
        assert line["source"] == "data.jsonl"
        assert len(line["excerpt"]) <= 200
        assert line["excerpt"].isascii() and line["excerpt"].isprintable()
    assert list(pool.columns("row")["row"]) == [0, 1, 2, *range(29, 32)]
    assert pool.manifest["rows_in"] == len(pool) + sum(pool.manifest["quarantined"].values())


def test_bad_rows_change_nothing_for_the_good_ones(jsonl: Jsonl) -> None:
    clean = read_rows(jsonl(rows(4), "clean.jsonl"))
    dirty = read_rows(jsonl([*BROKEN, *rows(4)], "dirty.jsonl"), max_bad_rate=1)
    assert [e.id for e in clean.examples] == [e.id for e in dirty.examples]
    assert clean.fingerprint == dirty.fingerprint


def test_escape_sequences_in_an_excerpt_cannot_reach_a_terminal(jsonl: Jsonl) -> None:
    found = inspect(jsonl([*rows(1), b"\x1b[31m \xe2\x80\xae {"]))
    assert found.quarantine[0]["excerpt"] == "\\x1b[31m \\u202e {"


@pytest.mark.parametrize("tail", [b'{"instruction": "a", "outp', b'{"instruction": "\xc3', b"{"])
def test_a_last_line_cut_short_is_a_truncated_tail(tail: bytes, jsonl: Jsonl) -> None:
    data = jsonl(rows(3))
    data.write_bytes(data.read_bytes() + tail)
    assert inspect(data).quarantined == {"truncated_tail": 1}


def test_a_last_line_without_newline_that_parses_is_a_row(jsonl: Jsonl) -> None:
    data = jsonl(rows(3))
    data.write_bytes(data.read_bytes().rstrip(b"\n"))
    assert inspect(data).rows == 3


def test_a_last_line_that_is_whole_but_wrong_keeps_its_own_reason(jsonl: Jsonl) -> None:
    data = jsonl(rows(3))
    data.write_bytes(data.read_bytes() + b'{"instruction": NaN}')
    assert inspect(data).quarantined == {"nonfinite_number": 1}


def test_a_line_over_the_cap_is_skipped_without_being_kept() -> None:
    long = b'"' + b"x" * 3_000_000 + b'"'
    stream = b"{}\n" + long + b'\n{"a": 1}\n' + long
    pieces = list(read_lines(io.BytesIO(stream), 1000))
    assert [piece.problem for piece in pieces] == ["", "too_long", "", "too_long"]
    assert [piece.offset for piece in pieces] == [0, 3, 3 + len(long) + 1, 3 + len(long) + 10]
    assert len(pieces[1].raw) <= 200
    assert pieces[1].size == len(long)
    assert pieces[1].digest == pieces[3].digest == hashlib.sha256(long).hexdigest()


@pytest.mark.parametrize("length", [9, 10, 11])
def test_the_cap_counts_the_record_without_its_newline(length: int) -> None:
    for end in (b"\n", b""):
        piece = next(read_lines(io.BytesIO(b"x" * length + end), 10))
        assert piece.problem == ("too_long" if length > 10 else "")


def test_nesting_is_allowed_up_to_the_limit_whatever_the_shape() -> None:
    def nested(depth: int, open_: str, close: str) -> bytes:
        return ('{"a":' + open_ * (depth - 1) + "1" + close * (depth - 1) + "}").encode()

    for open_, close in (("[", "]"), ('{"k":', "}")):
        parse_object(nested(MAX_DEPTH, open_, close))
        with pytest.raises(FormatMismatch) as caught:
            parse_object(nested(MAX_DEPTH + 1, open_, close))
        assert caught.value.reason == "too_deep"


@pytest.mark.parametrize(
    ("bad", "good", "rate", "passes"),
    [(1, 99, 0.01, True), (2, 98, 0.01, False), (1, 98, 0.01, False), (7, 93, 0.07, True),
     (1, 9, 0.1, True), (0, 3, 0, True), (1, 999, 0, False), (1, 1, 1, True), (29, 71, 0.29, True)],
)  # fmt: skip
def test_the_rate_is_compared_exactly(
    jsonl: Jsonl, store: Store, bad: int, good: int, rate: float, passes: bool
) -> None:
    data = jsonl([*rows(good), *([b"{"] * bad)])
    if passes:
        assert len(read(data, store, max_bad_rate=rate)) == good
        assert len(read_rows(data, max_bad_rate=rate).examples) == good
        return
    with pytest.raises(DataError) as caught:
        read(data, store, max_bad_rate=rate)
    message = str(caught.value)
    assert f"{bad} of {bad + good}" in message
    assert f"invalid_json {bad}" in message
    quarantine = store.root / "pool/quarantine.jsonl"
    assert str(quarantine) in message
    assert len(quarantine.read_text().splitlines()) == bad
    assert not (store.root / "pool/manifest.json").exists()
    with pytest.raises(DataError, match=f"row {good}"):
        read_rows(data, max_bad_rate=rate)


def test_a_lower_rate_also_refuses_a_pool_that_is_already_there(jsonl: Jsonl, store: Store) -> None:
    data = jsonl([*rows(9), b"{"])
    read(data, store, max_bad_rate=0.1)
    with pytest.raises(DataError, match="1 of 10"):
        read(data, store, max_bad_rate=0.05)


@pytest.mark.parametrize("rate", [-0.1, 1.5])
def test_a_rate_that_is_no_fraction_is_refused(jsonl: Jsonl, store: Store, rate: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        read(jsonl(rows(1)), store, max_bad_rate=rate)


@pytest.mark.parametrize("lines", [[], [b"", b"  \r"], [b"{", b"["]])
def test_nothing_usable_is_a_data_error_whatever_the_rate(
    jsonl: Jsonl, store: Store, lines: list[Any]
) -> None:
    with pytest.raises(DataError):
        read(jsonl(lines), store, max_bad_rate=1)
    with pytest.raises(DataError):
        read_rows(jsonl(lines), max_bad_rate=1)


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=60)
    | st.text(alphabet='{}[]":,\\u0dn1eE+-. \x00é', max_size=60).map(str.encode)
)
def test_any_bytes_parse_or_have_a_reason(data: bytes) -> None:
    for at_end in (False, True):
        try:
            value = parse_record(RawRecord(0, data, at_end=at_end))
        except FormatMismatch as unfit:
            assert unfit.reason
        else:
            json.dumps(value, allow_nan=False).encode()
