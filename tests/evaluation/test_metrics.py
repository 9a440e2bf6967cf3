"""The three metrics through the real engine on a tiny random model, against one row at a time."""

import math

import numpy as np
import pytest

from pilotfish.evaluation import METRICS
from pilotfish.evaluation.accuracy import Accuracy
from pilotfish.evaluation.exact_match import ROOM, answer_room, matches
from tests.comparison.makers import asked, labelled

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    from pilotfish.models import load
    from tests.tiny.models import tiny_llama

    torch.set_num_threads(1)
    folder = tiny_llama(tmp_path_factory.mktemp("tiny"), window=64)
    return load(str(folder), device="cpu", precision="fp32")


ROWS = [
    asked("say a", "abc"),
    asked("say more of it", "z"),
    asked("x" * 80, "too long"),
    asked("q", ""),
]


def test_the_table_knows_its_names():
    assert all(name == metric.name for name, metric in METRICS.items())
    assert [name for name, metric in METRICS.items() if not metric.higher_is_better] == ["loss"]


@pytest.mark.parametrize(
    ("output", "expected", "value"),
    [
        ("cat", "cat", 1.0),
        (" cat\n", "\tcat ", 1.0),
        ("Cat", "cat", 0.0),
        ("a  b", "a b", 0.0),
        ("cat.", "cat", 0.0),
        ("", "cat", 0.0),
        ("", "", None),
        ("cat", "  ", None),
    ],
)
def test_matching_strips_outer_whitespace_and_nothing_else(output, expected, value):
    assert matches(output, expected) == value


def test_the_room_for_an_answer_is_the_longest_expected_one_and_a_little(loaded):
    assert answer_room(loaded, ["a", "abcd", ""]) == 4 + ROOM


def test_exact_match_compares_the_greedy_answers(loaded, monkeypatch):
    called_with = {}

    def parrot(model, examples, *, max_new_tokens):
        called_with.update(model=model, room=max_new_tokens)
        return [" abc\n", "zz", "", "anything"]

    monkeypatch.setattr("pilotfish.engine.generate.generate", parrot)
    items = METRICS["exact_match"].items(loaded, ROWS)
    assert called_with == {"model": loaded, "room": len("too long") + ROOM}
    assert [item.id for item in items] == [row.id for row in ROWS]
    # the third prompt fills the window, so its "" is no answer; the fourth expects none
    assert [item.value for item in items] == [1.0, 0.0, None, None]
    assert [item.output for item in items] == [" abc\n", "zz", None, "anything"]
    assert [item.expected for item in items] == ["abc", "z", "too long", ""]


def test_exact_match_through_the_engine(loaded):
    (item,) = METRICS["exact_match"].items(loaded, ROWS[:1])
    assert item.output  # an untrained model says something, and it is wrong
    assert item.value == 0.0


def test_loss_is_the_mean_nll_of_the_response(loaded):
    from pilotfish.records import Need
    from pilotfish.tokenization import encode_scoring

    items = METRICS["loss"].items(loaded, ROWS)
    assert [item.output for item in items] == [None] * 4
    assert items[2].value is None and items[3].value is None
    for row, item in zip(ROWS[:2], items, strict=False):
        (encoded,) = encode_scoring([row], Need("nll", aligned=False), loaded.tokenizer, 64)
        ids = torch.tensor(encoded.ids[None].astype(np.int64))
        with torch.no_grad():
            logp = loaded.model(ids).logits[0].log_softmax(-1)
        where = np.flatnonzero(encoded.target)
        slow = -np.mean([float(logp[t - 1, ids[0, t]]) for t in where])
        assert item.value == pytest.approx(slow, abs=1e-5)


def test_accuracy_picks_the_likeliest_candidate(loaded):
    rows = [labelled(f"text {i}", label) for i, label in enumerate(["yes", "no", "no", "maybe"])]
    items = Accuracy().items(loaded, rows)
    assert all(item.output in {"yes", "no", "maybe"} for item in items)
    assert [item.value for item in items] == [float(item.output == item.expected) for item in items]
    turned = Accuracy().items(loaded, rows[::-1])[::-1]
    assert [item.output for item in turned] == [item.output for item in items]


def test_accuracy_of_prompts_with_few_answers(loaded):
    items = Accuracy().items(loaded, [asked("a?", "yes"), asked("b?", "no"), asked("x" * 90, "no")])
    assert {item.output for item in items[:2]} <= {"yes", "no"}
    assert items[2].value is None


def test_items_do_not_depend_on_their_neighbours(loaded):
    rows = [asked(f"say {'la ' * i}", "la") for i in range(1, 7)]
    for metric in METRICS.values():
        together = metric.items(loaded, rows)
        for row, item in zip(rows, together, strict=True):
            (alone,) = metric.items(loaded, [row])
            assert alone.output == item.output
            assert alone.value == pytest.approx(item.value, abs=1e-5)
            assert math.isfinite(item.value)
