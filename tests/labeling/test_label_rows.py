"""Weak labels of rows in memory: what they are, what they must not depend on, what is set aside."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pilotfish.config import LabelConfig
from pilotfish.config.settings import validate
from pilotfish.demo.models import shipped
from pilotfish.engine.generate import Generated, generate
from pilotfish.engine.likelihood import choice_nll
from pilotfish.errors import UsageError
from pilotfish.labeling.filtering import apply_filters, label_rows, predict_trusted
from pilotfish.labeling.predict import predict_labels, vote
from pilotfish.labeling.settings import resolve_config
from pilotfish.labeling.table import ABSTAINED, FAILED, FILTERED, OK
from pilotfish.models import Loaded, load
from pilotfish.records import Example
from tests.tiny.pools import asked

WORDS = ("abc", "river", "ab", "lemon", "stone", "zz", "tiger", "cloud", "piano", "apple")
PROMPTS = [asked(f"r{i}", f"reverse: {word}", word[::-1]) for i, word in enumerate(WORDS)]
TEXTS = [Example(f"t{i}", "s", i, text=w, label="ab"[i % 2]) for i, w in enumerate(WORDS)]


@pytest.fixture(scope="module")
def weak() -> Loaded:
    return load(str(shipped("weak")), device="cpu")


def test_hard_labels_are_the_greedy_answers(weak: Loaded) -> None:
    found = label_rows(PROMPTS, weak, LabelConfig(max_new_tokens=8))
    assert list(found.label) == generate(weak, PROMPTS, max_new_tokens=8)
    assert {*found.by} == {weak.digest} and {*found.fold} == {-1} and found.classes == ()
    assert (found.status == OK).any()
    assert all((s == OK) == (why == "") for s, why in zip(found.status, found.reason, strict=True))
    assert np.isfinite(found.confidence[found.ok]).all()
    cut = label_rows(PROMPTS, weak, LabelConfig(max_new_tokens=1))
    assert {*cut.status} == {FAILED} and {*cut.reason} == {"answer_cut_off"}
    assert np.isnan(cut.confidence).all()


def test_the_rows_own_answers_change_no_label(weak: Loaded) -> None:
    how = LabelConfig(max_new_tokens=8)
    other = [asked(row.id, row.prompt[0].content, "something else") for row in PROMPTS]
    assert same(label_rows(PROMPTS, weak, how), label_rows(other, weak, how))
    how = LabelConfig(kind="soft", classes=["a", "b"])
    texts = [replace(row, label=None) for row in TEXTS]
    assert same(label_rows(TEXTS, weak, how), label_rows(texts, weak, how))


def same(one: Any, other: Any) -> bool:
    close = np.allclose(one.confidence, other.confidence, atol=1e-5, equal_nan=True)
    names = ("ids", "label", "status", "reason")
    alike = all(list(getattr(one, n)) == list(getattr(other, n)) for n in names)
    probs = one.probs is None or np.allclose(one.probs, other.probs, atol=1e-5, equal_nan=True)
    return close and alike and probs


def test_soft_labels_sum_to_one_and_their_largest_is_the_hard_label(weak: Loaded) -> None:
    soft = label_rows(TEXTS, weak, LabelConfig(kind="soft"))
    assert soft.classes == ("a", "b") and soft.probs is not None
    assert soft.probs.sum(axis=1) == pytest.approx(1, abs=1e-12)
    assert [soft.classes[k] for k in soft.probs.argmax(axis=1)] == list(soft.label)
    assert soft.confidence == pytest.approx(soft.probs.max(axis=1))
    hard = label_rows(TEXTS, weak, LabelConfig(kind="hard"))
    assert list(hard.label) == list(soft.label) and hard.probs is None
    [one] = choice_nll(weak, TEXTS[:1], [("a", "b")], max_length=64)
    weights = np.exp(-one.total)
    assert soft.probs[0] == pytest.approx(weights / weights.sum(), abs=1e-5)


@pytest.mark.parametrize(
    ("rows", "how"),
    [
        (PROMPTS, LabelConfig(max_new_tokens=8)),
        (TEXTS, LabelConfig(kind="soft")),
        (PROMPTS, LabelConfig(kind="consistency", samples=3, temperature=1.0, max_new_tokens=8)),
    ],
)
def test_labels_depend_on_neither_order_nor_neighbours(
    rows: list[Example], how: LabelConfig, weak: Loaded
) -> None:
    together = label_rows(rows, weak, how)
    backwards = label_rows(rows[::-1], weak, how).take(range(len(rows))[::-1])
    assert same(together, backwards)
    how = how.model_copy(update={"classes": list(together.classes)})
    for i in (0, 4):
        assert same(together.take([i]), label_rows(rows[i : i + 1], weak, how))


def drawn(*texts: str) -> list[Generated]:
    return [Generated(text, 0.5, "" if text else "empty_answer") for text in texts]


def test_the_most_frequent_answer_wins_and_its_share_counts_all_samples() -> None:
    assert vote(drawn("No", "yes", "YES ", "no", " yes")) == (3 / 5, "yes", "")
    assert vote(drawn("b", "a", "a", "b")) == (2 / 4, "b", "")  # a tie: drawn first
    assert vote(drawn("", "a", "")) == (1 / 3, "a", "")
    assert vote(drawn("", "")) == (0.0, "", "empty_answer")


def test_consistency_is_the_share_of_samples_that_equal_the_label(weak: Loaded) -> None:
    from pilotfish.engine.sampling import sample

    how = LabelConfig(kind="consistency", samples=5, temperature=1.5, seed=7, max_new_tokens=8)
    found = label_rows(PROMPTS, weak, how)
    sampled = sample(weak, PROMPTS, samples=5, temperature=1.5, seed=7, max_new_tokens=8)
    for label, status, share, row in zip(
        found.label, found.status, found.confidence, sampled, strict=True
    ):
        texts = [one.text.casefold().strip() for one in row if not one.reason]
        assert (status == OK) == bool(texts)
        if texts:
            assert share == max(texts.count(text) for text in texts) / 5
            assert texts.count(label.casefold().strip()) / 5 == share
    assert found.consistency is not None
    assert np.array_equal(found.consistency, found.confidence, equal_nan=True)


def test_rows_below_the_threshold_abstain_and_keep_their_label(weak: Loaded) -> None:
    soft = label_rows(TEXTS, weak, LabelConfig(kind="soft"))
    edge = float(np.sort(soft.confidence)[4])
    found = label_rows(TEXTS, weak, LabelConfig(kind="soft", abstain_below=edge))
    assert found.counts == {OK: 6, ABSTAINED: 4, FILTERED: 0, FAILED: 0}
    assert list(found.label) == list(soft.label)
    assert (found.ok == (soft.confidence >= edge)).all()
    assert {*found.reason[~found.ok]} == {"confidence below --abstain-below"}


def test_filters_come_after_abstention_and_name_themselves(weak: Loaded) -> None:
    edge = float(np.sort(label_rows(TEXTS, weak, LabelConfig(kind="soft")).confidence)[2])
    how = LabelConfig(
        kind="soft", abstain_below=edge, filter="confidence(keep=0.5),knn(k=2,keep=0.5)"
    )
    found = label_rows(TEXTS, weak, how)
    assert found.counts == {OK: 2, ABSTAINED: 2, FILTERED: 6, FAILED: 0}
    filtered = [why.split(":")[0] for why in found.reason[found.status == FILTERED]]
    assert sorted(filtered) == ["confidence"] * 4 + ["knn"] * 2


def test_trust_learns_from_trusted_rows_and_reports_how_well(weak: Loaded) -> None:
    trusted = [
        Example(f"g{i}", "s", i, text=f"{i % 10}{w}", label="ab"[(i // 3) % 2])
        for i, w in enumerate(WORDS * 7)
    ]
    how = LabelConfig(kind="soft", classes=["a", "b"], filter="trust(keep=0.5)")
    predictions = predict_labels(TEXTS, weak, how)
    assert predictions.states is not None and predictions.states.shape[0] == 10
    found = apply_filters(predictions, how, {-1: predict_trusted(trusted, weak, how)})
    assert found.labels.counts[OK] == 5
    assert 0 <= found.facts["trust(keep=0.5)"]["auroc"] <= 1
    with pytest.raises(UsageError, match="trust"):
        label_rows(TEXTS, weak, how)


def test_states_are_of_the_prompt_alone(weak: Loaded) -> None:
    how = LabelConfig(filter="knn", classes=["a", "b"])
    one, other = (
        predict_labels([replace(TEXTS[0], label=y)], weak, how).states for y in ("a", "bbb")
    )
    assert one is not None and other is not None
    assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "fuzzy"}, "fuzzy"),
        ({"folds": 1}, "folds"),
        ({"abstain_below": 1.5}, "abstain"),
        ({"classes": ["a"]}, "classes"),
        ({"classes": ["a", "a"]}, "classes"),
        ({"kind": "consistency", "classes": ["a", "b"]}, "consistency"),
        ({"filter": "confidense"}, "confidence"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    settings: dict[str, Any], words: str, weak: Loaded
) -> None:
    with pytest.raises(UsageError, match=words):
        label_rows(TEXTS, weak, validate(LabelConfig, settings, parts={}))


def test_classes_come_from_labels_few_answers_or_the_user(weak: Loaded) -> None:
    def found(how: LabelConfig, labels: list[str | None], *answers: str) -> LabelConfig:
        return resolve_config(how, lambda: weak, labels, lambda: answers)

    own: list[str | None] = ["b", "a", "b"]
    none: list[str | None] = [None] * 3
    assert found(LabelConfig(kind="hard"), own).classes == ["a", "b"]
    assert found(LabelConfig(kind="soft", classes=["z", "a"]), own).classes == ["z", "a"]
    assert found(LabelConfig(kind="hard"), none, "x", "y", "x").classes == []
    assert found(LabelConfig(kind="soft"), none, "x", "y", " x").classes == ["x", "y"]
    with pytest.raises(UsageError, match="30 distinct"):
        found(LabelConfig(kind="soft"), none, *(f"answer {i}" for i in range(30)))
    # one in a hundred, here the longest, may be longer
    assert found(LabelConfig(), none, "abc", "abcd", "ab").max_new_tokens == 3 + 4
    assert found(LabelConfig(), none).max_new_tokens == 32  # no answer known: half the window
