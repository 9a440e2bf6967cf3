"""Which metric fits which test rows."""

import pytest

from pilotfish.errors import DataError
from pilotfish.evaluation import METRICS, default_metric
from pilotfish.records import Example
from tests.comparison.makers import asked, labelled


def chosen(examples):
    name, reason = default_metric(examples)
    assert name in METRICS
    assert reason[0].islower()  # it is printed in brackets after the name
    return name


def test_labels_ask_for_accuracy():
    assert chosen([labelled("a", "yes"), labelled("b", "no")]) == "accuracy"


def test_few_distinct_short_answers_are_classes():
    assert chosen([asked(f"q{i}", "yes" if i % 3 else "no") for i in range(20)]) == "accuracy"


def test_a_handful_of_rows_is_too_few_to_call_answers_classes():
    assert chosen([asked(f"q{i}", str(i % 2)) for i in range(8)]) == "exact_match"


def test_one_answer_to_everything_is_no_choice():
    assert chosen([asked(f"q{i}", "ok") for i in range(50)]) == "exact_match"


def test_short_answers_ask_for_exact_match():
    assert chosen([asked(f"q{i}", f"answer {i}") for i in range(100)]) == "exact_match"


def test_a_few_long_answers_do_not_change_that():
    rows = [asked(f"q{i}", f"answer {i}") for i in range(95)]
    assert (
        chosen([*rows, *(asked(f"l{i}", "long " * 90 + str(i)) for i in range(5))]) == "exact_match"
    )


def test_long_text_asks_for_loss():
    assert chosen([asked(f"q{i}", f"{i} " + "word " * 60) for i in range(40)]) == "loss"


def test_plain_text_asks_for_loss():
    assert chosen([Example(id="a", source="s", row=0, text="short")]) == "loss"


def test_no_rows_are_refused():
    with pytest.raises(DataError, match="no test rows"):
        default_metric([])
