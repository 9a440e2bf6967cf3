"""Results on disk: committed, reused only for the same model and questions, refused when mixed."""

import json
import math
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from pilotfish.errors import DamagedRun, DataError, UsageError
from pilotfish.evaluation import Item, evaluate_model, load_evaluated, load_results, read_items
from pilotfish.evaluation.items import item_hash
from pilotfish.evaluation.results import EvaluationSet
from pilotfish.store import Store
from tests.comparison.makers import asked

ROWS = [asked("one", "1"), asked("zwei é\u2028", "2"), asked("three", "3")]
MODEL = SimpleNamespace(digest="d0")


@dataclass
class Counting:
    """A metric that counts how often it had to judge; the second row is unscorable."""

    name: str = "exact_match"
    higher_is_better: bool = True
    calls: int = 0

    def items(self, loaded, examples):
        self.calls += 1
        values = [1.0, None, 0.5]
        return [
            Item(example.id, self.name, value, "out\nput", example.response)
            for example, value in zip(examples, values, strict=True)
        ]


def judge(store, metric, *, loaded=MODEL, arm="selected", seed=0, test="t0", **options):
    test_set = EvaluationSet(ROWS, test)
    return evaluate_model(store, loaded, test_set, arm=arm, seed=seed, metric=metric, **options)


def test_lines_hold_the_contract(tmp_path):
    assert judge(Store(tmp_path), Counting())
    lines = (tmp_path / "judge/selected/seed-0.jsonl").read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    first = json.loads(lines[0])
    assert list(first) == ["id", "metric", "value", "output", "expected", "hash"]
    expected = ["one", "exact_match", 1.0, "out\nput", "1", item_hash(ROWS[0])]
    assert list(first.values()) == expected
    assert json.loads(lines[1])["value"] is None
    manifest = json.loads((tmp_path / "judge/selected/seed-0.json").read_text())
    assert manifest.items() >= {
        "arm": "selected", "seed": 0, "metric": "exact_match", "higher_is_better": True,
        "items": 3, "unscorable": 1, "model_digest": "d0", "test_fingerprint": "t0",
    }.items()  # fmt: skip


def test_results_come_back_by_id_with_nan_for_null(tmp_path):
    store = Store(tmp_path)
    judge(store, Counting(), seed=2)
    judge(store, Counting(), seed=10)
    judge(store, Counting(), arm="random")
    found = load_results(store)
    judged = load_evaluated(store)
    assert {arm: list(seeds) for arm, seeds in found.items()} == {
        "random": [0],
        "selected": [2, 10],
    }
    values = found["selected"][2]
    assert list(values) == [row.id for row in ROWS]
    assert (values["one"], values["three"]) == (1.0, 0.5)
    assert math.isnan(values["zwei é\u2028"])
    assert (judged.metric, judged.higher_is_better, judged.test_fingerprint) == (
        "exact_match",
        True,
        "t0",
    )


def test_nothing_judged_is_nothing(tmp_path):
    assert load_results(Store(tmp_path)) == {}
    assert load_evaluated(Store(tmp_path)) is None


def test_an_intact_result_is_reused(tmp_path):
    store, metric = Store(tmp_path), Counting()
    assert judge(store, metric)
    before = (tmp_path / "judge/selected/seed-0.jsonl").read_bytes()
    assert not judge(store, metric)
    assert metric.calls == 1
    assert judge(store, metric, force=True)
    assert metric.calls == 2
    assert (tmp_path / "judge/selected/seed-0.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"loaded": SimpleNamespace(digest="d1")},
        {"test": "t1"},
        {"metric": Counting(name="loss")},
    ],
)
def test_another_model_test_or_metric_is_evaluated_again(tmp_path, change):
    store = Store(tmp_path)
    judge(store, Counting())
    metric = change.pop("metric", Counting())
    assert judge(store, metric, **change)
    assert metric.calls == 1


def test_a_damaged_result_is_judged_again_and_never_loaded(tmp_path):
    store, metric = Store(tmp_path), Counting()
    judge(store, metric)
    path = tmp_path / "judge/selected/seed-0.jsonl"
    path.write_text(path.read_text().replace("1.0", "0.0"))
    with pytest.raises(DamagedRun, match=r"seed-0\.jsonl"):
        load_evaluated(store)
    assert judge(store, metric)
    assert load_evaluated(store).results["selected"][0]["one"] == 1.0


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"test": "t1"}, "different test rows"),
        ({"metric": Counting(name="loss")}, "different metrics"),
    ],
)
def test_mixed_questions_are_refused_in_words(tmp_path, other, words):
    store = Store(tmp_path)
    judge(store, Counting())
    judge(store, other.pop("metric", Counting()), arm="random", **other)
    with pytest.raises(UsageError, match=f"{words}.*selected seed 0.*|{words}.*random seed 0.*"):
        load_evaluated(store)


def test_test_rows_that_share_an_id_are_refused(tmp_path):
    twice = [asked("a", "1", key="x"), asked("b", "2", key="x")]
    with pytest.raises(DataError, match="share the id 'x'"):
        evaluate_model(
            Store(tmp_path), MODEL, EvaluationSet(twice, ""), arm="a", seed=0, metric=Counting()
        )


def test_no_test_rows_are_refused(tmp_path):
    with pytest.raises(DataError, match="no test rows"):
        evaluate_model(
            Store(tmp_path), MODEL, EvaluationSet([], ""), arm="a", seed=0, metric=Counting()
        )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"id": "a", "value": 1}\n{"id": "a", "value": 0}\n', "line 2: the item 'a' occurs twice"),
        ('{"id": "a"}\n', "line 1 is no judged item"),
        ('{"id": "a", "value": 1}\nnonsense\n', "line 2 is no judged item"),
        ('{"id": "a", "value": "high"}\n', "line 1 is no judged item"),
        ("[1, 2]\n", "line 1 is no judged item"),
    ],
)
def test_files_that_hold_no_items_are_refused_by_line(tmp_path, text, words):
    path = tmp_path / "items.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_items(path)


def test_a_lone_surrogate_survives():
    line = Item("a", "exact_match", 1.0, "\ud800", "é").line()
    assert json.loads(line.encode("utf-8"))["output"] == "\ud800"
