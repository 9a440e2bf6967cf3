"""R5: every record ends in one place, with its reason; bad rows change nothing for clean ones."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pilotfish.cli.main import run as run_command
from pilotfish.data.ingest import read
from tests.data.test_broken import BROKEN
from tests.figures import Reached
from tests.torture.jobs import Jobs

pytestmark = pytest.mark.torture

METHOD = "superfiltering"
Origin = tuple[str, int]


class Poison(NamedTuple):
    """One bad record: its bytes in the file, and what must become of it."""

    data: bytes
    reason: str


def clean(count: int, *, start: int = 0) -> list[dict[str, str]]:
    """Alpaca rows, all distinct, none alike in length."""
    return [
        {"instruction": f"Say {i}", "input": "", "output": "word " * (i % 5 + 1) + str(i)}
        for i in range(start, start + count)
    ]


def line(record: Any) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode()


LATER = {  # measured, but not scorable
    line({"instruction": "empty answer", "input": "", "output": ""}): "empty_response",
    line({"instruction": "far " * 90, "input": "", "output": "too far away"}): "prompt_over_limit",
    line({"instruction": "short", "input": "", "output": "k"}): "too_few_tokens",
}
ODD = [  # unlike others, and right
    b'{"instruction": "line\xe2\x80\xa8separator", "input": "", "output": "stays one row"}',
    b'{"instruction": "a huge number", "output": "kept beside", "n": 18446744073709551615}  \r',
    b'{"instruction": "control \\u0007 bell", "input": "", "output": "is text like others"}',
    b'{"output": "no input at all", "instruction": "and keys the other way round"}',
    b'{"id": 1, "instruction": "an id", "output": "that is there twice"}',
    b'{"id": 1, "instruction": "an id again", "output": "so that ids are hashes"}',
]
WRONG_SHAPE = [
    Poison(b'{"messages": [{"role": "user", "content": "hi"}]}', "missing_field"),
    Poison(b'{"prompt": "of another schema", "completion": "x"}', "missing_field"),
    Poison(b"null", "not_object"),
    Poison(b"{}", "missing_field"),
    Poison(b'{"instruction": true, "output": "b"}', "wrong_type"),
    Poison(b'{"instruction": {"a": 1}, "output": "b"}', "wrong_type"),
    Poison(b'{"instruction": "a", "output": ["b"]}', "wrong_type"),
    Poison(b"\xef\xbb\xbf" + line(clean(1)[0]), "invalid_json"),  # a BOM in the middle
    Poison(b'{"instruction": "a", "output": "' + b"x" * (17 * 2**20) + b'"}', "too_long"),
]
CORPUS = [*(Poison(data, reason) for data, reason in BROKEN.items()), *WRONG_SHAPE]
TAIL = Poison(b'{"instruction": "cut off", "outp', "truncated_tail")


class Found(NamedTuple):
    """Where every record went, by (source, row), and the scores by id."""

    quarantined: dict[Origin, str]
    scored: dict[Origin, str]  # reason, "" where there is a score
    scores: dict[str, float]


def scored(jobs: Jobs, data: Path, run: Path) -> Found:
    """What the real command makes of a file."""
    words = ["score", str(data), "--weak", jobs.weak, "--method", METHOD, "--max-length", "120"]
    words += ["--max-bad-rate", "1", "--out", str(run), "--quiet"]
    assert run_command(words) == 0
    lines = (run / "pool/quarantine.jsonl").read_text().splitlines()
    bad = {(e["source"], e["row"]): e["reason"] for e in map(json.loads, lines)}
    assert len(bad) == len(lines)
    table = pq.read_table(run / "scores.parquet").to_pylist()
    where = {(row["source"], row["row"]): row[f"{METHOD}_reason"] or "" for row in table}
    assert len(where) == len(table)
    return Found(bad, where, {r["id"]: r[METHOD] for r in table if r[METHOD] is not None})


def check(found: Found, expected: dict[int, str], alone: Found) -> None:
    """expected: row -> reason of its quarantine, or "" for rows of the pool."""
    assert not found.quarantined.keys() & found.scored.keys()
    assert {row for _, row in found.quarantined.keys() | found.scored.keys()} == {*expected}
    assert {row: why for (_, row), why in found.quarantined.items()} == {
        row: why for row, why in expected.items() if why
    }
    # bit for bit: no tolerance
    assert {id_: found.scores.get(id_) for id_ in alone.scores} == alone.scores
    assert alone.scores


def mixed(good: Sequence[bytes], bad: Sequence[Poison]) -> tuple[list[bytes], dict[int, str]]:
    """Bad records among good ones, and what is expected of each."""
    records = [*(Poison(data, "") for data in good)]
    for number, poison in enumerate(bad):
        records.insert(2 * number % (len(records) + 1), poison)
    return [r.data for r in records], {row: r.reason for row, r in enumerate(records)}


@pytest.mark.parametrize("shape", ["jsonl", "json"])
def test_poisoned_json(shape: str, jobs: Jobs, tmp_path: Path, reached: Reached) -> None:
    """In shards of seven rows: quarantined records take no place in them."""
    good = [*map(line, clean(16)), *ODD]
    # an element of a list is a value of JSON: what is none breaks the list, not the element
    bad = CORPUS if shape == "jsonl" else [p for p in CORPUS if _is_value(p)]
    records, expected = mixed(good, bad)
    data, whole = tmp_path / f"rows.{shape}", tmp_path / f"clean.{shape}"
    if shape == "jsonl":
        data.write_bytes(b"\n".join([*records, TAIL.data]))
        whole.write_bytes(b"\n".join(good))
        expected[len(records)] = TAIL.reason
    else:
        data.write_bytes(b"[" + b",\n".join(records) + b"]")
        whole.write_bytes(b"[" + b",\n".join(good) + b"]")
    found = scored(jobs, data, tmp_path / "run")
    check(found, expected, scored(jobs, whole, tmp_path / "clean"))
    reached("R5", f"{shape}: {len(found.quarantined)} poisoned records of "
            f"{len({*found.quarantined.values()})} reasons named, {len(found.scored)} others "
            "scored bit for bit as without them")  # fmt: skip


def _is_value(poison: Poison) -> bool:
    try:
        json.loads(poison.data)
    except (ValueError, RecursionError):
        return False
    return True


def test_what_cannot_be_scored_stays_in_the_pool_with_its_reason(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reached: Reached
) -> None:
    """In one shard; of several such rows take places, and others are read together."""
    monkeypatch.setitem(read.__kwdefaults__ or {}, "shard_rows", 2000)
    good = [*map(line, clean(16)), *ODD]
    bad = [Poison(data, "") for data in LATER]
    records, expected = mixed(good, bad)
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(records))
    (tmp_path / "clean.jsonl").write_bytes(b"\n".join(good))
    found = scored(jobs, tmp_path / "rows.jsonl", tmp_path / "run")
    check(found, expected, scored(jobs, tmp_path / "clean.jsonl", tmp_path / "clean"))
    reasons = [why for why in found.scored.values() if why]
    assert sorted(reasons) == sorted(LATER.values())
    reached("R5", f"{len(reasons)} unscorable records: in the pool, each with its reason")


HUGE = b"x" * (17 * 2**20)
CSV = [
    Poison(b"only one field", "missing_field"),
    Poison(b"two,fields", "missing_field"),
    Poison(b"a,b,c,and one too many", "wrong_type"),
    Poison(b'"open"quote,x,y', "invalid_csv"),
    Poison(b"\xff\xfe,x,y", "invalid_utf8"),
    Poison(b"a,\xc3\x28,y", "invalid_utf8"),
    Poison(b"a,x,\xed\xa0\x80", "invalid_utf8"),  # half of a surrogate pair, as bytes
    Poison(b"a,x,\xc0\xaf", "invalid_utf8"),  # a slash in more bytes than it needs
    Poison(b"a\x00b,x,y", "nul_char"),
    Poison(b"a,x,\x00", "nul_char"),
    Poison(b"a,x," + HUGE, "too_long"),
]
CSV_ODD = [  # unlike others, and right
    b'"a, comma","","and ""quotes"" in it"',
    b'"two\nlines","","of one row"',
    b"line\xe2\x80\xa8separator,,stays one row",
    b"=cmd()|x,,a formula is text like others",
    b"\xef\xbb\xbfa mark,,in the middle of a file",
    b"NaN,1e999,99999999999999999999",
    b"twice,,the same row",
    b"twice,,the same row",
    b"a bell \x07,,is text like others",
    b"ends with,,a return\r",
]
CSV_LATER = {
    b"empty answer,,": "empty_response",
    b"far " * 90 + b",,too far away": "prompt_over_limit",
}


def test_poisoned_csv(jobs: Jobs, tmp_path: Path, reached: Reached) -> None:
    good = [*(_csv(row) for row in clean(14)), *CSV_ODD]
    records, expected = mixed([*good, *CSV_LATER], CSV)
    header = b"instruction,input,output\n"
    for name, rows in (("rows", records), ("clean", good)):
        (tmp_path / f"{name}.csv").write_bytes(header + b"\n".join(rows) + b"\n")
    found = scored(jobs, tmp_path / "rows.csv", tmp_path / "run")
    check(found, expected, scored(jobs, tmp_path / "clean.csv", tmp_path / "clean"))
    reasons = [why for why in found.scored.values() if why]
    assert sorted(reasons) == sorted(CSV_LATER.values())
    told = f"csv: {len(CSV)} poisoned records named, {len(CSV_LATER)} unscorable, the others scored"
    reached("R5", f"{told} bit for bit")


def _csv(row: dict[str, str]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="").writerow(row.values())
    return out.getvalue().encode()


LIKE = {"instruction": "a", "input": "", "output": "b", "s": 0.5}
PARQUET: list[tuple[dict[str, Any], str]] = [  # what is other than in LIKE
    ({"instruction": None}, "missing_field"),
    ({"output": None}, "missing_field"),
    ({"instruction": "a\x00"}, "nul_char"),
    ({"output": "\x00"}, "nul_char"),
    ({"output": "x" * (17 * 2**20)}, "too_long"),
    ({"instruction": b"\xff\xfe"}, "invalid_utf8"),
    ({"output": b"\xed\xa0\x80"}, "invalid_utf8"),
    ({"input": b"\xc3"}, "invalid_utf8"),
    ({"s": float("nan")}, "nonfinite_number"),
    ({"s": float("-inf")}, "nonfinite_number"),
]


def test_poisoned_parquet(jobs: Jobs, tmp_path: Path, reached: Reached) -> None:
    good = [{**row, "s": 0.5} for row in clean(14)]
    bad = [({**LIKE, **change}, why) for change, why in PARQUET]
    rows: list[tuple[dict[str, Any], str]] = [(row, "") for row in good]
    for number, poison in enumerate(bad):
        rows.insert(3 * number, poison)
    expected = {place: why for place, (_, why) in enumerate(rows)}
    pq.write_table(_table([row for row, _ in rows]), tmp_path / "rows.parquet")
    pq.write_table(_table(good), tmp_path / "clean.parquet")
    found = scored(jobs, tmp_path / "rows.parquet", tmp_path / "run")
    check(found, expected, scored(jobs, tmp_path / "clean.parquet", tmp_path / "clean"))
    reached("R5", f"parquet: {len(bad)} poisoned records named, the others scored bit for bit")


def _table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Text columns made of bytes, so that they may hold what is no UTF-8."""
    columns: dict[str, Any] = {"s": pa.array([row["s"] for row in rows])}
    for name in ("instruction", "input", "output"):
        raw = [row[name].encode() if isinstance(row[name], str) else row[name] for row in rows]
        array = pa.array(raw, pa.binary())
        columns[name] = pa.Array.from_buffers(pa.string(), len(array), array.buffers())
    return pa.table(columns)


def test_a_record_in_two_places_would_be_found(jobs: Jobs, tmp_path: Path) -> None:
    """Negative control: the check is red for a lost record, a wrong reason, another last bit."""
    good = [*map(line, clean(8))]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(good))
    found = scored(jobs, tmp_path / "a.jsonl", tmp_path / "run")
    expected = dict.fromkeys(range(8), "")
    check(found, expected, found)
    name = min(found.scores)
    moved = {**found.scores, name: found.scores[name] * (1 + 1e-15)}
    both = {min(found.scored): "invalid_json"}
    for wrong, wanted in (
        (found._replace(scored=dict(list(found.scored.items())[1:])), expected),
        (found._replace(quarantined=both), expected),
        (found, {**expected, 3: "nul_char"}),
        (found._replace(scores=moved), expected),
    ):
        with pytest.raises(AssertionError):
            check(wrong, wanted, found)
