"""The same rows from every kind of source, and paths that are not there."""

import csv
import gzip
import io
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pilotfish.data.readers.jsonl import find_array, read_array
from pilotfish.errors import DataError, MissingExtra, PilotfishError, UsageError
from tests.data.conftest import rows
from tests.reading import inspect, read_rows

Jsonl = Callable[..., Path]

TALKS = [
    {"instruction": 'quote " and, comma', "input": "two\nlines", "output": " é\u2028 ", "tag": "a"},
    {"instruction": "[{", "input": "", "output": "]}", "tag": ""},
    {"instruction": "back\\slash", "input": "😀", "output": "", "tag": "c"},
]


def as_jsonl(records: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode()


def as_csv(records: list[dict[str, Any]]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(records[0]))
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue().encode()


def as_parquet(records: list[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(records), sink)
    return bytes(sink.getvalue())


def as_arrow(records: list[dict[str, Any]], writer: Any = pa.ipc.new_stream) -> bytes:
    table = pa.Table.from_pylist(records)
    sink = pa.BufferOutputStream()
    with writer(sink, table.schema) as out:
        out.write_table(table)
    return bytes(sink.getvalue())


KINDS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "a.jsonl": as_jsonl,
    "a.ndjson": as_jsonl,
    "a.jsonl.gz": lambda r: gzip.compress(as_jsonl(r)),
    "bom.jsonl": lambda r: b"\xef\xbb\xbf" + as_jsonl(r),
    "crlf.jsonl": lambda r: as_jsonl(r).replace(b"\n", b"\r\n"),
    "a.json": lambda r: json.dumps(r).encode(),
    "pretty.json": lambda r: json.dumps(r, indent=2).encode(),
    "bom.json": lambda r: b"\xef\xbb\xbf" + json.dumps(r).encode(),
    "a.json.gz": lambda r: gzip.compress(json.dumps(r).encode()),
    "wrapped.json": lambda r: json.dumps({"version": [1], "data": r}).encode(),
    "wrapped_pretty.json": lambda r: json.dumps({"data": r, "n": {}}, indent=1).encode(),
    "lines.json": as_jsonl,
    "lines.json.gz": lambda r: gzip.compress(as_jsonl(r)),
    "a.csv": as_csv,
    "a.csv.gz": lambda r: gzip.compress(as_csv(r)),
    "bom.csv": lambda r: b"\xef\xbb\xbf" + as_csv(r),
    "a.parquet": as_parquet,
    "a.arrow": as_arrow,
    "file.arrow": lambda r: as_arrow(r, pa.ipc.new_file),
    "UPPER.JSONL": as_jsonl,
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    (tmp_path / "plain.jsonl").write_bytes(as_jsonl(TALKS))
    (tmp_path / name).write_bytes(KINDS[name](TALKS))
    plain, other = read_rows(tmp_path / "plain.jsonl"), read_rows(tmp_path / name)
    assert [e.digest for e in other.examples] == [e.digest for e in plain.examples]
    assert [e.row for e in other.examples] == [0, 1, 2]
    assert other.fingerprint == plain.fingerprint
    assert {e.source for e in other.examples} == {name}
    assert [json.loads(e.raw) for e in other.examples] == TALKS
    assert all("\n" not in e.raw for e in other.examples)
    assert not other.quarantined


def test_tsv_takes_quotes_as_text(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(b'text\tlabel\r\nsay "hi\t1\r\n\r\n "x" \t0')
    found = read_rows(path).examples
    assert [(e.text, e.label, e.row) for e in found] == [('say "hi', "1", 0), (' "x" ', "0", 1)]


def test_raw_is_the_line_byte_for_byte_and_unknown_columns_survive(tmp_path: Path) -> None:
    line = '{ "instruction":"a",  "output" : "\\u00e9", "x": {"b": [1, 2.50, null]}, "id": 7 }'
    (tmp_path / "a.jsonl").write_text(line + "\n")
    example = read_rows(tmp_path / "a.jsonl").examples[0]
    assert example.raw == line
    assert example.meta == {"x": {"b": [1, 2.5, None]}, "id": 7}


def test_columns_of_reserved_names_stay_in_meta(jsonl: Jsonl) -> None:
    data = jsonl(rows(1, source="web", row=9, id="z"))
    example = read_rows(data).examples[0]
    assert (example.source, example.row, example.id) == ("data.jsonl", 0, "z")
    assert example.meta == {"source": "web", "row": 9, "id": "z"}


def test_blank_lines_have_no_ordinal_and_bad_ones_have(jsonl: Jsonl) -> None:
    first, second = rows(2)
    data = jsonl([b"", first, b" \t\r", b"{", second, b""])
    assert [e.row for e in read_rows(data, max_bad_rate=1).examples] == [0, 2]


def test_csv_rows_that_do_not_fit_their_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'prompt,completion\na,b\na\na,b,c\n"x"y,b\n\xff,b\n\n\x00,b\n"a\nb",c\n')
    found = inspect(path)
    assert [(line["row"], line["reason"]) for line in found.quarantine] == [
        (1, "missing_field"), (2, "wrong_type"), (3, "invalid_csv"), (4, "invalid_utf8"),
        (5, "nul_char"),
    ]  # fmt: skip
    assert [e.row for e in found.examples] == [0, 6]
    offsets = [line["byte_offset"] for line in found.quarantine]
    content = path.read_bytes()
    assert [content[at : at + 3] for at in offsets] == [
        b"a\na",
        b"a,b",
        b'"x"',
        b"\xff,b",
        b"\x00,b",
    ]


def test_an_open_quote_counts_every_line_it_swallows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,completion\n" + "a,b\n" * 50 + '"a,b\n' + "a,b\n" * 49)
    assert inspect(path).quarantined == {"invalid_csv": 50}


def test_csv_fields_longer_than_pythons_limit_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'prompt,completion\n"{"x" * 200_000}",b\n')
    assert len(read_rows(path).examples[0].turns[0].content) == 200_000


def test_a_header_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,prompt\na,b\n")
    with pytest.raises(DataError, match=r"a\.csv.*'prompt' twice"):
        read_rows(tmp_path / "a.csv")


def test_a_header_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"prompt,completi\xf6n\na,b\n")
    with pytest.raises(DataError, match="header line is not UTF-8"):
        read_rows(tmp_path / "a.csv")


def test_a_broken_element_of_a_json_list_costs_itself_alone(tmp_path: Path) -> None:
    good = [json.dumps(record) for record in rows(2)]
    path = tmp_path / "a.json"
    path.write_text(f'[{good[0]}, {{"instruction": NaN}}, {{bad}}, 3, {good[1]}, {{"instr')
    found = inspect(path)
    assert [(line["row"], line["reason"]) for line in found.quarantine] == [
        (1, "nonfinite_number"), (2, "invalid_json"), (3, "not_object"), (5, "truncated_tail"),
    ]  # fmt: skip
    assert [e.row for e in found.examples] == [0, 4]


@pytest.mark.parametrize("text", ["[]", "[ \n]", '{"data": []}', ""])
def test_an_empty_json_list_holds_no_record(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match="no record"):
        read_rows(tmp_path / "a.json")


def test_elements_over_the_cap_are_too_long() -> None:
    buffer = b'[{"a": "' + b"x" * 50 + b'"}, {}]'
    pieces = list(read_array(buffer, find_array(buffer) or 0, max_bytes=20))
    assert [piece.problem for piece in pieces] == ["too_long", ""]


def test_parquet_values_json_has_no_word_for_become_text(tmp_path: Path) -> None:
    import datetime
    import decimal

    table = pa.table(
        {
            "text": ["a", "b"],
            "when": [datetime.date(2024, 1, 2), None],
            "price": [decimal.Decimal("1.50"), None],
            "blob": [b"\x00\xff", None],
            "score": [1.5, float("nan")],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    found = inspect(tmp_path / "a.parquet")
    assert found.quarantined == {"nonfinite_number": 1}
    meta = {"when": "2024-01-02", "price": "1.50", "blob": "AP8=", "score": 1.5}
    assert found.examples[0].meta == meta


def test_a_parquet_text_that_is_no_utf8_costs_its_row_alone(tmp_path: Path) -> None:
    texts = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    found = inspect(tmp_path / "a.parquet")
    assert [e.row for e in found.examples] == [0, 2]
    assert [line["row"] for line in found.quarantine] == [1]
    assert found.quarantined == {"invalid_utf8": 1}


def test_an_arrow_file_with_damaged_offsets_is_named_and_does_not_end_the_process(
    tmp_path: Path,
) -> None:
    content = as_arrow([{"text": "abc"}, {"text": "de"}])
    offsets = b"".join(n.to_bytes(4, "little") for n in (0, 3, 5))
    assert content.count(offsets) == 1
    far = b"".join(n.to_bytes(4, "little") for n in (0, 2**30, 2**31 - 1))
    (tmp_path / "a.arrow").write_bytes(content.replace(offsets, far))
    with pytest.raises(DataError, match=r"a\.arrow"):
        read_rows(tmp_path / "a.arrow")


def test_messages_in_parquet_are_read_like_messages_in_json(tmp_path: Path, jsonl: Jsonl) -> None:
    talk = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    pq.write_table(pa.Table.from_pylist([{"messages": talk}]), tmp_path / "a.parquet")
    one = read_rows(tmp_path / "a.parquet").examples[0]
    assert one.digest == read_rows(jsonl([{"messages": talk}])).examples[0].digest


def test_a_folder_is_read_by_relative_name_and_what_is_no_data_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "b").mkdir(parents=True)
    (folder / ".cache").mkdir()
    first, second, third = rows(3)
    (folder / "b" / "x.jsonl").write_text(json.dumps(second) + "\n")
    (folder / "a.jsonl").write_text(json.dumps(first) + "\n")
    (folder / "c.json").write_text(json.dumps([third]))
    (folder / "dataset_infos.json").write_text("{}")
    (folder / "README.md").write_text("no data")
    (folder / "loader.py").write_text("raise SystemExit('a script ran')")
    (folder / ".cache" / "y.jsonl").write_text("{")
    found = read_rows(folder)
    assert [(e.source, e.row) for e in found.examples] == [("a.jsonl", 0), ("b/x.jsonl", 0), ("c.json", 0)]  # fmt: skip # noqa: E501
    assert list(found.sources) == ["a.jsonl", "b/x.jsonl", "c.json"]


def test_a_glob_is_read_relative_to_its_fixed_part(tmp_path: Path) -> None:
    for name, record in zip(("p1", "p2"), rows(2), strict=True):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jsonl").write_text(json.dumps(record) + "\n")
    found = read_rows(f"{tmp_path}/p*/x.jsonl")
    assert [e.source for e in found.examples] == ["p1/x.jsonl", "p2/x.jsonl"]
    with pytest.raises(UsageError, match="no data"):
        read_rows(f"{tmp_path}/q*.jsonl")


def test_a_file_whose_name_looks_like_a_glob_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a[1].jsonl"
    path.write_bytes(as_jsonl(TALKS))
    assert len(read_rows(path).examples) == 3


@pytest.mark.parametrize(
    "typed",
    ["./none", "/none/x", "none.jsonl", "none.txt", "a/b/c", "x*.csv", "~/none", "tests/no"],
)
def test_a_path_that_is_not_there_never_touches_the_network(
    typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)  # importing it would be MissingExtra
    with pytest.raises(UsageError) as caught:
        read_rows(typed)
    assert not isinstance(caught.value, MissingExtra)


def test_a_misspelt_path_is_met_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "alpaca.jsonl").write_bytes(as_jsonl(TALKS))
    with pytest.raises(UsageError) as caught:
        read_rows(tmp_path / "alpacca.jsonl")
    assert caught.value.hint and "alpaca.jsonl" in caught.value.hint


def test_files_of_unknown_kind_and_empty_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    for data in (tmp_path / "a.txt", tmp_path):
        with pytest.raises(UsageError) as caught:
            read_rows(data)
        assert caught.value.hint and "jsonl" in caught.value.hint


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.gz", "a.parquet", "a.arrow"])
def test_a_container_cut_short_or_garbled_is_a_data_error_naming_it(
    name: str, tmp_path: Path
) -> None:
    whole = KINDS[name](TALKS * 50)
    for content in (whole[: len(whole) // 2], b"garbage!" * 9):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            read_rows(tmp_path / name, max_bad_rate=1)


def garbled(content: bytes, dice: random.Random) -> bytes:
    """A few bytes changed, cut out or put in; now and then the rest is gone."""
    for _ in range(dice.randint(1, 5)):
        i = dice.randrange(len(content) + 1)
        odd = dice.choice([b'"', b"\n", b"[", b"}", b"\0", b"\\", b",", b"\xff", b"\r"])
        cut = dice.choice([i, i + 1, i + 20, len(content) if dice.random() < 0.3 else i])
        content = content[:i] + odd + content[cut:]
    return content


@pytest.mark.parametrize("name", KINDS)
def test_garbled_files_are_counted_or_refused_but_never_crash(name: str, tmp_path: Path) -> None:
    whole, dice, read = KINDS[name](TALKS * 3), random.Random(name), 0
    for _ in range(25):
        (tmp_path / name).write_bytes(garbled(whole, dice))
        try:
            found = inspect(tmp_path / name)
        except PilotfishError as error:
            assert error.exit_code in (2, 3)
        else:
            read += 1
            assert found.rows_in == found.rows + sum(found.quarantined.values())
    assert read or name.endswith((".gz", ".parquet", ".arrow"))


def test_split_makes_no_sense_for_a_local_file(jsonl: Jsonl) -> None:
    with pytest.raises(UsageError, match="is local"):
        read_rows(jsonl(rows(1)), split="train")


def test_limit_counts_records_over_all_sources_bad_ones_too(jsonl: Jsonl) -> None:
    data = jsonl([b"{", *rows(5)])
    found = read_rows(data, limit=3, max_bad_rate=1)
    assert (found.rows_in, len(found.examples), found.quarantined) == (3, 2, {"invalid_json": 1})
    with pytest.raises(UsageError, match="at least 1"):
        read_rows(data, limit=0)


def test_inspect_shows_columns_counts_and_first_rows(jsonl: Jsonl, tmp_path: Path) -> None:
    found = inspect(jsonl([*rows(20, tag=1), *[b"{"] * 12]))
    assert (found.schema, found.rows_in, found.rows) == ("alpaca", 32, 20)
    assert found.columns == ("instruction", "input", "output", "tag")
    assert len(found.quarantine) == 10
    assert [e.turns[0].content for e in found.examples] == ["say 0", "say 1", "say 2"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.jsonl"]


def test_importing_the_room_loads_neither_torch_nor_datasets() -> None:
    code = "import sys, pilotfish.data; print(not {'torch', 'datasets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
