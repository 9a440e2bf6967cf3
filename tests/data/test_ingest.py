"""Ids, overlap with test data, shards on disk, resume, and the pool that comes out."""

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.data import Pool, ingest, overlap_key, overlap_keys
from pilotfish.errors import DamagedRun, DataError, UsageError
from pilotfish.records import Example, Turn
from pilotfish.store import Store, fs_ops, run_lock
from tests.data.conftest import rows
from tests.reading import read, read_rows

Jsonl = Callable[..., Path]


def files_of(root: Path) -> dict[str, str]:
    """Every file of a run but its lock, with its digest."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "LOCK"
    }


# -- ids ---------------------------------------------------------------------------------------


def ids_of(data: Path) -> list[str]:
    return [example.id for example in read_rows(data).examples]


def with_ids(*ids: Any) -> list[dict[str, Any]]:
    return [{**row, "id": name} for row, name in zip(rows(len(ids)), ids, strict=True)]


def test_a_unique_id_column_names_the_rows_as_text(jsonl: Jsonl) -> None:
    assert ids_of(jsonl(with_ids("a", 7, "é"))) == ["a", "7", "é"]


@pytest.mark.parametrize("ids", [("a", "b", "a"), ("a", None, "b"), (1, "1", 2), ("a", True, "b"),
                                 ("a", "", "b")])  # fmt: skip
def test_one_bad_id_turns_all_into_hashes_with_a_warning(
    ids: tuple[Any, ...], jsonl: Jsonl
) -> None:
    found = read_rows(jsonl(with_ids(*ids)))
    assert [e.id for e in found.examples] == [f"{e.digest[:16]}-0" for e in found.examples]
    assert len(found.warnings) == 1
    assert "'id'" in found.warnings[0]
    assert [e.meta["id"] for e in found.examples] == list(ids)


def test_without_an_id_column_there_is_nothing_to_warn_about(jsonl: Jsonl) -> None:
    assert read_rows(jsonl(rows(2))).warnings == ()


def test_equal_rows_differ_by_occurrence(jsonl: Jsonl) -> None:
    first, second = rows(2)
    found = ids_of(jsonl([first, second, first, first]))
    assert [name.split("-")[1] for name in found] == ["0", "0", "1", "2"]
    assert len({name.split("-")[0] for name in found}) == 2


def test_the_id_column_may_be_mapped(jsonl: Jsonl) -> None:
    data = jsonl([{**row, "uid": f"u{i}"} for i, row in enumerate(rows(3))])
    assert [e.id for e in read_rows(data, mapping={"id": "uid"}).examples] == ["u0", "u1", "u2"]


def test_shuffling_a_file_or_splitting_it_keeps_the_ids(jsonl: Jsonl, tmp_path: Path) -> None:
    records = [*rows(30), *rows(10)]
    mixed = list(records)
    random.Random(3).shuffle(mixed)
    parts = tmp_path / "parts"
    parts.mkdir()
    for i in range(4):
        lines = [json.dumps(record) + "\n" for record in mixed[i::4]]
        (parts / f"{i}.jsonl").write_text("".join(lines))
    whole = read_rows(jsonl(records))
    shuffled = read_rows(jsonl(mixed, "mixed.jsonl"))
    split = read_rows(parts)
    names = {e.id for e in whole.examples}
    assert len(names) == 40
    assert {e.id for e in shuffled.examples} == names == {e.id for e in split.examples}
    assert shuffled.fingerprint != whole.fingerprint


# -- overlap -----------------------------------------------------------------------------------


def talk(*turns: tuple[str, str]) -> Example:
    return Example("x", "s", 0, turns=tuple(Turn(*turn) for turn in turns))


def test_the_same_question_overlaps_whatever_case_space_system_or_answer() -> None:
    one = talk(("system", "be kind"), ("user", "What  is\nUP? "), ("assistant", "the sky"))
    two = talk(("user", " what is up?"), ("assistant", "no idea"))
    other = talk(("user", "what is down?"), ("assistant", "the sky"))
    assert overlap_key(one) == overlap_key(two) != overlap_key(other)


def test_texts_overlap_by_text_and_empty_prompts_by_their_answer() -> None:
    one = Example("x", "s", 0, text="A b", label="1")
    assert overlap_key(one) == overlap_key(Example("y", "s", 1, text="a  B", label="0"))
    silent = [talk(("user", " "), ("assistant", reply)) for reply in ("a", "b")]
    assert overlap_key(silent[0]) != overlap_key(silent[1])


def test_an_alpaca_prompt_meets_the_same_question_in_another_shape(jsonl: Jsonl) -> None:
    alpaca = jsonl([{"instruction": "Sort.", "input": "b a", "output": "a b"}], "pool.jsonl")
    test = jsonl([{"prompt": "sort. b a", "completion": "?"}], "test.jsonl")
    keys = overlap_keys(read_rows(test).examples)
    with pytest.raises(DataError, match="also in the test data"):
        read_rows(alpaca, exclude=keys)


def test_overlapping_rows_are_dropped_counted_and_named(jsonl: Jsonl, store: Store) -> None:
    data = jsonl([*rows(10), b"{"])
    keys = overlap_keys(read_rows(data, max_bad_rate=1).examples[2:4])
    pool = read(data, store, exclude=keys, max_bad_rate=0.1)
    assert list(pool.columns("row")["row"]) == [0, 1, 4, 5, 6, 7, 8, 9]
    named = [json.loads(line) for line in (store.root / "pool/dropped.jsonl").read_text().split("\n") if line]  # fmt: skip # noqa: E501
    assert [(line["source"], line["row"]) for line in named] == [("data.jsonl", 2), ("data.jsonl", 3)]  # fmt: skip # noqa: E501
    assert not {line["id"] for line in named} & set(pool.columns("id")["id"])
    manifest = pool.manifest
    assert (manifest["rows_in"], manifest["rows"], manifest["dropped"]) == (11, 8, 2)
    assert manifest["quarantined"] == {"invalid_json": 1}
    in_memory = read_rows(data, exclude=keys, max_bad_rate=0.1)
    assert in_memory.dropped == 2
    assert list(in_memory.dropped_ids) == [line["id"] for line in named]
    assert in_memory.fingerprint == pool.fingerprint


# -- the pool on disk --------------------------------------------------------------------------


@pytest.mark.parametrize("shard_rows", [1, 4, 10, 11, 100])
def test_what_is_read_back_is_what_was_read(jsonl: Jsonl, store: Store, shard_rows: int) -> None:
    data = jsonl([*rows(10, id=1, z=[1.5, {"é": None}]), {"instruction": "a", "output": ""}])
    pool, memory = read(data, store, shard_rows=shard_rows), read_rows(data)
    assert list(pool.examples()) == memory.examples
    assert len(pool) == 11
    assert pool.shards == -(-11 // shard_rows)
    assert [pool.bounds(i)[1] - pool.bounds(i)[0] for i in range(pool.shards)] == [
        len(pool.shard(i)) for i in range(pool.shards)
    ]
    assert (pool.fingerprint, pool.schema) == (memory.fingerprint, "alpaca")
    assert pool.warnings == list(memory.warnings)
    columns = pool.columns("id", "source", "row", "digest", "raw", "label")
    assert columns["row"].dtype == np.int64
    assert list(columns["id"]) == [e.id for e in memory.examples]
    assert list(columns["digest"]) == [e.digest for e in memory.examples]
    assert "\n".join(columns["raw"]) + "\n" == data.read_text()
    assert set(columns["label"]) == {None}


def test_classification_and_plain_text_survive_the_disk(jsonl: Jsonl, tmp_path: Path) -> None:
    for i, record in enumerate([{"text": " x ", "label": 3}, {"text": "\u2028"}]):
        data = jsonl([record], f"{i}.jsonl")
        with run_lock(tmp_path / f"run{i}") as held:
            assert list(read(data, held).examples()) == read_rows(data).examples


@pytest.mark.parametrize("wanted", [[], [5], [9, 0, 9, 4, 3], list(range(10))[::-1]])
def test_take_and_raw_keep_the_requested_order(
    jsonl: Jsonl, store: Store, wanted: list[int]
) -> None:
    pool = read(jsonl(rows(10)), store, shard_rows=3)
    everything = list(pool.examples())
    assert pool.take(wanted) == [everything[i] for i in wanted]
    assert pool.take(np.array(wanted, dtype=np.int64)) == pool.take(wanted)
    assert pool.raw(wanted) == [everything[i].raw for i in wanted]


@pytest.mark.parametrize("wanted", [[10], [-1]])
def test_positions_outside_the_pool_are_refused(
    jsonl: Jsonl, store: Store, wanted: list[int]
) -> None:
    pool = read(jsonl(rows(10)), store)
    with pytest.raises(IndexError):
        pool.take(wanted)


def test_turns_are_no_plain_column(jsonl: Jsonl, store: Store) -> None:
    with pytest.raises(KeyError, match="turns"):
        read(jsonl(rows(1)), store).columns("turns")


def test_big_texts_close_a_shard_early(
    jsonl: Jsonl, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "SHARD_BYTES", 200)
    pool = read(jsonl(rows(10)), store)
    assert pool.shards == 3  # 53 bytes a record
    assert [e.row for e in pool.examples()] == list(range(10))


def test_the_manifest_tells_what_was_read_and_nothing_of_the_machine(
    jsonl: Jsonl, store: Store
) -> None:
    data = jsonl([{"q": "a", "a": "b"}])
    manifest = read(data, store, mapping={"prompt": "q", "completion": "a"}, limit=5).manifest
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    assert manifest["sources"] == {"data.jsonl": digest}
    assert manifest["mapping"] == {"prompt": "q", "completion": "a"}
    assert (manifest["limit"], manifest["schema"]) == (5, "prompt_completion")
    assert str(data.parent) not in (store.root / "pool/manifest.json").read_text()


# -- damage, reuse, resume ---------------------------------------------------------------------


def test_a_run_without_a_pool_is_named(store: Store) -> None:
    with pytest.raises(DamagedRun, match=r"pool/manifest\.json"):
        Pool.open(store)


@pytest.mark.parametrize("use", ["shard", "columns", "take", "raw"])
def test_a_flipped_bit_is_found_before_use(jsonl: Jsonl, store: Store, use: str) -> None:
    read(jsonl(rows(9)), store, shard_rows=3)
    path = store.root / "pool/part-00001.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    pool = Pool.open(store)
    assert len(pool.shard(0)) == 3
    calls: dict[str, Callable[[], Any]] = {
        "shard": lambda: pool.shard(1),
        "columns": lambda: pool.columns("id"),
        "take": lambda: pool.take([4]),
        "raw": lambda: pool.raw([4]),
    }
    with pytest.raises(DamagedRun, match=r"part-00001\.parquet"):
        calls[use]()


def test_a_shard_of_another_read_is_not_taken_for_ours(
    jsonl: Jsonl, store: Store, tmp_path: Path
) -> None:
    read(jsonl(rows(4)), store)
    with run_lock(tmp_path / "other") as other:
        read(jsonl(rows(4, tag=1), "other.jsonl"), other)
    for suffix in ("json", "parquet"):
        name = f"pool/part-00000.{suffix}"
        (store.root / name).write_bytes((tmp_path / "other" / name).read_bytes())
    with pytest.raises(DamagedRun, match="lists"):
        Pool.open(store).shard(0)


def test_two_runs_are_byte_identical_and_a_rerun_writes_nothing(
    jsonl: Jsonl, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = jsonl([*rows(10), b"{"])
    read(data, store, shard_rows=3, max_bad_rate=1)
    with run_lock(tmp_path / "again") as again:
        read(data, again, shard_rows=3, max_bad_rate=1)
    assert files_of(store.root) == files_of(tmp_path / "again")
    monkeypatch.setattr(fs_ops, "replace", None)  # any commit would fail
    assert len(read(data, store, shard_rows=3, max_bad_rate=1)) == 10


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it and carry on."""


def test_a_read_killed_at_any_rename_ends_in_the_same_bytes(
    jsonl: Jsonl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = jsonl([*rows(7), b"{"])
    keys = overlap_keys(read_rows(data, max_bad_rate=1).examples[:1])

    def run(root: Path) -> None:
        with run_lock(root) as held:
            read(data, held, shard_rows=2, max_bad_rate=1, exclude=keys)

    run(tmp_path / "whole")
    expected = files_of(tmp_path / "whole")
    real, renames = fs_ops.replace, 0

    def failing(source: Path, target: Path) -> None:
        nonlocal renames
        renames += 1
        if renames == stop:
            raise Killed
        real(source, target)

    for stop in range(1, 11):  # 3 parts, quarantine and manifest: two files each
        root, renames = tmp_path / f"killed{stop}", 0
        monkeypatch.setattr(fs_ops, "replace", failing)
        with pytest.raises(Killed):
            run(root)
        assert not (root / "pool/manifest.json").exists()
        monkeypatch.setattr(fs_ops, "replace", real)
        run(root)
        assert files_of(root) == expected


def test_only_missing_and_damaged_shards_are_written_again(
    jsonl: Jsonl, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = jsonl(rows(10))
    read(data, store, shard_rows=2)
    before = files_of(store.root)
    (store.root / "pool/part-00001.parquet").write_bytes(b"x")
    (store.root / "pool/part-00003.json").unlink()
    written: list[int] = []
    real = ingest.write_shard

    def watched(path: Path, group: Any) -> None:
        written.append(group[0].row // 2)
        real(path, group)

    monkeypatch.setattr(ingest, "write_shard", watched)
    read(data, store, shard_rows=2)
    assert written == [1, 3]
    assert files_of(store.root) == before


def test_other_data_or_arguments_reuse_nothing_and_leave_nothing_behind(
    jsonl: Jsonl, store: Store
) -> None:
    data = jsonl(rows(10))
    read(data, store, shard_rows=2)
    assert len(read(data, store, shard_rows=2, limit=3)) == 3
    assert len(list(store.root.glob("pool/part-*"))) == 4
    first = list(Pool.open(store).columns("raw")["raw"])
    # The same content in other bytes: equal ids, yet `raw` must be the new one
    data.write_text(data.read_text().replace('", "', '",  "'))
    again = read(data, store, shard_rows=2, limit=3)
    assert [json.loads(line) for line in again.raw([0, 1, 2])] == [json.loads(f) for f in first]
    assert again.raw([0, 1, 2]) != first


def test_a_failed_read_takes_the_old_pool_out_of_use(jsonl: Jsonl, store: Store) -> None:
    read(jsonl(rows(4)), store)
    with pytest.raises(DataError):
        read(jsonl([*rows(4), b"{"], "bad.jsonl"), store)
    with pytest.raises(DamagedRun):
        Pool.open(store)


@pytest.mark.parametrize("change", ["edit", "append", "cut"])
def test_a_source_that_changes_between_the_passes_is_noticed(
    change: str, jsonl: Jsonl, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, other = jsonl(rows(4)), rows(5)
    content = {"edit": [*other[:3], other[4]], "append": other, "cut": other[:3]}[change]
    real = ingest._check

    def meddling(*args: Any) -> None:
        real(*args)
        jsonl(content)

    monkeypatch.setattr(ingest, "_check", meddling)
    with pytest.raises(DataError, match="changed while"):
        read(data, store)
    assert not (store.root / "pool/manifest.json").exists()


def test_a_shard_size_below_one_is_refused(jsonl: Jsonl, store: Store) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        read(jsonl(rows(1)), store, shard_rows=0)


def test_rows_of_another_schema_are_quarantined(jsonl: Jsonl) -> None:
    found = read_rows(jsonl([{"text": "stray"}, *rows(3)]), max_bad_rate=0.25)
    assert (found.schema, found.quarantined) == ("alpaca", {"missing_field": 1})
