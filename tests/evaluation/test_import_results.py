"""Items judged elsewhere: what is read, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from pilotfish.errors import DataError, UsageError
from pilotfish.evaluation.import_results import Imported, check_alike, fingerprint_of, read_imported

Lines = list[dict[str, Any]]
DATE = "2026-11-23T01-02-03.456789"


def ours(count: int = 4, **changes: Any) -> Lines:
    return [
        {"id": f"q{i}", "metric": "exact_match", "value": i % 2, "output": "a", "expected": "b",
         "hash": f"h{i}", **changes}
        for i in range(count)
    ]  # fmt: skip


def sample(number: int, *, sieve: str = "none", **changes: Any) -> dict[str, Any]:
    """A line as lm-eval 0.4.13 writes it."""
    return {
        "doc_id": number, "doc": {"question": "?"}, "target": "4", "arguments": {},
        "resps": [["4"]], "filtered_resps": ["4"], "filter": sieve, "metrics": ["acc", "acc_norm"],
        "doc_hash": f"{number:064x}", "prompt_hash": "b" * 64, "target_hash": "c" * 64,
        "acc": 1.0, "acc_norm": 0.0, **changes,
    }  # fmt: skip


def write(path: Path, lines: Lines) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_our_own_lines_come_back_as_they_went(tmp_path: Path) -> None:
    path = write(tmp_path / "i.jsonl", ours(confidence=0.5, task="sums"))
    found = read_imported(path)
    assert (found.metric, found.higher_is_better, found.limited) == ("exact_match", True, False)
    assert [json.loads(item.line()) for item in found.items] == [
        {**line, "value": float(line["value"])} for line in ours(confidence=0.5, task="sums")
    ]
    assert found.questions == {f"q{i}": f"h{i}" for i in range(4)}


def test_a_line_needs_only_id_metric_and_value(tmp_path: Path) -> None:
    path = write(tmp_path / "i.jsonl", [{"id": 7, "metric": "loss", "value": None}])
    found = read_imported(path)
    assert not found.higher_is_better
    assert [(item.id, item.value, item.hash) for item in found.items] == [("7", None, None)]


def test_which_way_is_better_is_known_or_given(tmp_path: Path) -> None:
    path = write(tmp_path / "i.jsonl", ours(metric="grade"))
    assert read_imported(path).higher_is_better
    assert not read_imported(path, lower_is_better=True).higher_is_better


def test_one_of_several_metrics_is_chosen(tmp_path: Path) -> None:
    path = write(tmp_path / "i.jsonl", [*ours(), *ours(metric="loss")])
    assert len(read_imported(path, metric="loss").items) == 4
    with pytest.raises(UsageError, match="several metrics: exact_match, loss"):
        read_imported(path)
    with pytest.raises(UsageError, match="holds no 'f1': exact_match, loss"):
        read_imported(path, metric="f1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("{", "line 1 is no JSON"),
        ("[1]", "line 1 is no object"),
        ('{"id": "a", "value": 1}', "line 1 has no 'metric'"),
        ('{"id": "a", "metric": "m", "value": "much"}', "line 1: .*'much'"),
        ('{"id": "a", "metric": "m", "value": 1, "confidence": "sure"}', "line 1: .*'sure'"),
        ('{"id": null, "metric": "m", "value": 1}', "line 1: the id is no text and no number"),
        ("[" * 100_000, "line 1 is no JSON"),
        ('{"id": "a", "metric": "m", "value": 1}\n' * 2, "the item 'a' occurs twice"),
    ],
)
def test_broken_files_name_their_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "i.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_imported(path)


def test_bytes_that_are_no_utf8_name_their_line(tmp_path: Path) -> None:
    path = tmp_path / "i.jsonl"
    path.write_bytes(b'{"id": "a", "metric": "m", "value": 1, "output": "\xff"}\n')
    with pytest.raises(DataError, match=r"line 1 is no JSON: .*0xff"):
        read_imported(path)


def test_what_is_not_finite_could_not_be_judged(tmp_path: Path) -> None:
    lines = [{"id": i, "metric": "m", "value": v} for i, v in enumerate(["NaN", "Infinity", 1])]
    path = write(tmp_path / "i.jsonl", [*lines, {"id": 3, "metric": "m", "value": float("nan")}])
    found = read_imported(path)
    assert [item.value for item in found.items] == [None, None, 1.0, None]
    assert len(found.digest) == 64  # every line is strict JSON


def test_a_byte_order_mark_and_a_metric_that_is_a_number_are_read(tmp_path: Path) -> None:
    path = tmp_path / "i.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": "a", "metric": 5, "value": 1}\n')
    found = read_imported(path)
    assert [(item.id, item.metric, item.value) for item in found.items] == [("a", "5", 1.0)]


def test_samples_of_lm_eval_are_items(tmp_path: Path) -> None:
    path = write(tmp_path / f"samples_arc_easy_{DATE}.jsonl", [sample(0), sample(1, acc=0.0)])
    found = read_imported(path, metric="acc")
    assert [(item.id, item.value, item.task) for item in found.items] == [
        ("arc_easy/0", 1.0, "arc_easy"), ("arc_easy/1", 0.0, "arc_easy"),
    ]  # fmt: skip
    assert found.items[0].hash == f"{'0' * 16}:{'b' * 16}:{'c' * 16}"
    assert (found.items[0].output, found.items[0].expected) == ("4", "4")
    with pytest.raises(UsageError, match="several metrics: acc, acc_norm"):
        read_imported(path)


def test_a_filter_is_chosen_as_lm_eval_writes_it(tmp_path: Path) -> None:
    lines = [sample(0, sieve="strict"), sample(0, sieve="loose", acc=0.0)]
    path = write(tmp_path / "samples_gsm.jsonl", lines)
    assert read_imported(path, metric="acc,loose").items[0].value == 0.0
    with pytest.raises(UsageError, match="several filters: loose, strict") as found:
        read_imported(path, metric="acc")
    assert "NAME,FILTER" in str(found.value.hint)


def test_a_folder_of_samples_is_one_model(tmp_path: Path) -> None:
    for task in ("a", "b"):
        write(tmp_path / f"model/samples_{task}_{DATE}.jsonl", [sample(0), sample(1)])
    found = read_imported(tmp_path, metric="acc")
    assert [item.id for item in found.items] == ["a/0", "a/1", "b/0", "b/1"]
    with pytest.raises(UsageError, match=r"no samples_\*.jsonl"):
        read_imported(write(tmp_path / "empty/x.txt", []).parent)


def test_a_limit_is_found_in_the_results_file(tmp_path: Path) -> None:
    path = write(tmp_path / f"samples_a_{DATE}.jsonl", [sample(0)])
    assert not read_imported(path, metric="acc").limited
    results = tmp_path / f"results_{DATE}.json"
    results.write_text(json.dumps({"config": {"limit": 10}}))
    assert read_imported(path, metric="acc").limited
    results.write_text(json.dumps({"config": {"limit": None}}))
    assert not read_imported(path, metric="acc").limited


def test_what_cannot_be_paired_is_refused(tmp_path: Path) -> None:
    old = {key: value for key, value in sample(3).items() if key != "doc_hash"}
    with pytest.raises(DataError, match="document 3 has no doc_hash"):
        read_imported(write(tmp_path / "samples_a.jsonl", [old]), metric="acc")
    whole = sample(0, metrics=["perplexity"], perplexity=[-3.0, 7])
    with pytest.raises(DataError, match="'perplexity' of document 0 is no number"):
        read_imported(write(tmp_path / "samples_b.jsonl", [whole]))


def model(tmp_path: Path, lines: Lines, name: str = "m", **how: Any) -> Imported:
    return read_imported(write(tmp_path / f"{name}.jsonl", lines), **how)


def test_models_with_the_same_questions_are_alike_in_any_order(tmp_path: Path) -> None:
    one, other = model(tmp_path, ours()), model(tmp_path, ours(value=1)[::-1])
    check_alike({("selected", 0): one, ("random", 0): other})
    assert fingerprint_of(one) == fingerprint_of(other) != fingerprint_of(model(tmp_path, ours(3)))
    bare = [{key: line[key] for key in ("id", "metric", "value")} for line in ours()]
    check_alike(
        {("selected", 0): one, ("random", 0): model(tmp_path, bare)}
    )  # ids are all there is


def test_missing_items_are_named_with_their_number(tmp_path: Path) -> None:
    found = {("selected", 0): model(tmp_path, ours(8)), ("random", 2): model(tmp_path, ours(5))}
    message = "random seed 2 was not judged on 3 of the 8 items of selected seed 0, 'q5' among them"
    with pytest.raises(DataError, match=message):
        check_alike(found)
    with pytest.raises(DataError, match="random seed 2 was not judged on 3 of the 8"):
        check_alike(dict(reversed(found.items())))


def test_another_question_under_the_same_id_is_refused(tmp_path: Path) -> None:
    other = [{**line, "hash": "x"} if line["id"] in ("q1", "q3") else line for line in ours()]
    found = {("selected", 0): model(tmp_path, ours()), ("random", 0): model(tmp_path, other)}
    message = "random seed 0 answered other questions than selected seed 0 under 2 of 4 ids, 'q1'"
    with pytest.raises(DataError, match=message):
        check_alike(found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt_hash": "d" * 64}, "the prompt differs"),
        ({"doc_hash": "d" * 64, "target_hash": "e" * 64}, "the document and the target differ$"),
    ],
)
def test_what_differs_between_two_runs_of_lm_eval_is_named(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    one = model(tmp_path, [sample(0)], "samples_a", metric="acc")
    other = model(tmp_path, [sample(0, **changes)], "samples_a", metric="acc")
    with pytest.raises(DataError, match=message):
        check_alike({("selected", 0): one, ("random", 0): other})


def test_two_metrics_are_no_comparison(tmp_path: Path) -> None:
    other = model(tmp_path, ours(metric="loss"))
    with pytest.raises(UsageError, match="random seed 0 was judged by loss, selected seed 0 by"):
        check_alike({("selected", 0): model(tmp_path, ours()), ("random", 0): other})
