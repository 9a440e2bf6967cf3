"""The laws every filter in FILTERS obeys, by name and with every knob that cuts."""

import dataclasses

import numpy as np
import pytest

from pilotfish.errors import UsageError
from pilotfish.labeling.filters import FILTERS, Candidates, make_filter
from tests.labeling.filters.tables import drawn

TEXTS = [
    *sorted(FILTERS),
    *(f"{name}(keep=0.35)" for name in sorted(FILTERS)),
    *(f"{name}(keep=0.5,per_class=true)" for name in sorted(FILTERS)),
    "confidence(above=0.6)",
    "consistency(above=0.5)",
    "trust(above=0.6)",
    "trust(kind=logistic)",
]


@pytest.fixture(scope="module")
def seen():
    return drawn(0)[0]


def shuffled(seen, order, gold_order):
    def states(values, at):
        return None if values is None else values[at]

    return Candidates(
        seen.labels.take(order),
        states(seen.states, order),
        seen.trusted_labels.take(gold_order),
        states(seen.trusted_states, gold_order),
        seen.trusted_correct[gold_order],
    )


@pytest.mark.parametrize("text", TEXTS)
def test_every_dropped_row_has_a_reason_and_no_kept_row_has_one(text, seen):
    kept, score, reason = make_filter(text).apply(seen)
    assert kept.shape == score.shape == reason.shape == (len(seen),)
    assert kept.dtype == bool and (reason == "").tolist() == kept.tolist()
    assert 0 < kept.sum() < len(seen)


@pytest.mark.parametrize("text", TEXTS)
def test_failure_is_never_a_number_and_never_kept(text, seen):
    kept, score, reason = make_filter(text).apply(seen)
    assert np.isfinite(score[kept]).all() and not np.isinf(score).any()
    assert np.isnan(score[~seen.labels.ok]).all() and not kept[~seen.labels.ok].any()
    for row, status in enumerate(seen.labels.status[:6]):
        assert reason[row] == f"not labelled: {status}"


@pytest.mark.parametrize("text", TEXTS)
def test_order_of_rows_and_of_gold_rows_changes_nothing(text, seen):
    rng = np.random.default_rng(4)
    order, gold_order = rng.permutation(len(seen)), rng.permutation(len(seen.trusted_labels))
    kept, score, reason = make_filter(text).apply(seen)
    mixed = make_filter(text).apply(shuffled(seen, order, gold_order))
    np.testing.assert_array_equal(mixed.kept, kept[order])
    np.testing.assert_array_equal(mixed.score, score[order])
    np.testing.assert_array_equal(mixed.reason, reason[order])


@pytest.mark.parametrize("text", TEXTS)
def test_kept_rows_score_at_least_as_high_as_dropped_ones(text, seen):
    kept, score, _ = make_filter(text).apply(seen)
    groups = seen.labels.label if "per_class" in text else np.zeros(len(seen))
    for group in set(groups):
        inside = (groups == group) & np.isfinite(score)
        assert score[inside & kept].min() >= score[inside & ~kept].max(initial=-np.inf)


@pytest.mark.parametrize("share", [0.01, 0.25, 0.35, 0.5, 0.9])
@pytest.mark.parametrize("name", sorted(FILTERS))
def test_budget_is_exact(name, share, seen):
    kept = make_filter(f"{name}(keep={share})").apply(seen).kept
    assert kept.sum() == int(share * seen.labels.ok.sum() + 0.5)  # by hand: halves up


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_a_full_share_keeps_every_row_that_has_a_score(name, seen):
    kept, score, _ = make_filter(f"{name}(keep=1.0)").apply(seen)
    np.testing.assert_array_equal(kept, np.isfinite(score))


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_per_class_keeps_the_share_of_every_class(name, seen):
    kept = make_filter(f"{name}(keep=0.5,per_class=true)").apply(seen).kept
    for label in "012":
        inside = seen.labels.ok & (seen.labels.label == label)
        assert kept[inside].sum() == int(0.5 * inside.sum() + 0.5)


@pytest.mark.parametrize("text", TEXTS)
def test_input_is_left_alone_and_a_second_call_agrees(text, seen):
    before = {name: values.copy() for name, values in seen.labels.to_columns().items()}
    states = seen.states.copy()
    one, two = make_filter(text).apply(seen), make_filter(text).apply(seen)
    np.testing.assert_array_equal(one.score, two.score)
    for name, values in seen.labels.to_columns().items():
        np.testing.assert_array_equal(values, before[name])
    np.testing.assert_array_equal(seen.states, states)


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_no_row_and_no_usable_row_keep_nothing(name, seen):
    for rows in ([], [0, 1, 2]):
        few = dataclasses.replace(seen, labels=seen.labels.take(rows), states=seen.states[rows])
        kept, _, reason = make_filter(f"{name}(keep=0.5)").apply(few)
        assert not kept.any() and all(reason)


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_filters_are_frozen_documented_and_named(name):
    made = make_filter(name)
    assert made == FILTERS[name]() and made.formula and made.cite
    assert isinstance(made.facts(drawn(1)[0]), dict)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.keep = 0.1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("confidnce", "did you mean"),
        ("knn(neighbours=3)", "no setting of knn is called 'neighbours'"),
        ("knn(k=many)", "k='many'"),
        ("knn(k=true)", "k=True"),
        ("knn(k=0)", "no number of neighbours"),
        ("knn(keep=0)", "no share"),
        ("confidence(keep=1.5)", "no share"),
        ("confidence(keep=0.5,above=0.9)", "contradict"),
        ("trust(kind=forest)", "kind='forest'"),
        ("trust(kind=mlp)", "write trust(kind=logistic)"),
        ("confidence(per_class=1)", "per_class=1"),
    ],
)
def test_wrong_words_meet_a_sentence(text, sentence):
    with pytest.raises(UsageError, match=r"filter|knn|confidence|trust") as caught:
        make_filter(text)
    assert sentence in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("text", "without", "needs"),
    [
        ("knn", {"states": None}, "hidden states"),
        ("trust", {"trusted_labels": None}, "trusted rows"),
        ("trust", {"trusted_correct": None}, "trusted rows"),
    ],
)
def test_what_was_not_measured_is_named(text, without, needs, seen):
    with pytest.raises(UsageError, match=needs):
        make_filter(text).apply(dataclasses.replace(seen, **without))


def test_consistency_needs_samples(seen):
    plain = dataclasses.replace(seen, labels=dataclasses.replace(seen.labels, consistency=None))
    with pytest.raises(UsageError, match="sampled answers"):
        make_filter("consistency").apply(plain)
