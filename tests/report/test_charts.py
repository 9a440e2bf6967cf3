"""Positions stand where the values are, ticks are round, words are exact."""

import pytest

from pilotfish.report import formatting
from pilotfish.report.charts import Axis, axis


def test_positions_run_from_0_to_100() -> None:
    span = Axis(0.0, 2.0)
    assert [span.at(value) for value in (0.0, 0.5, 2.0, 9.0, None)] == [0, 25, 100, 100, None]
    assert Axis(1.0, 100.0, log=True).at(10.0) == 50


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.0, 1.0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0.31, 0.36, ["0.31", "0.32", "0.33", "0.34", "0.35", "0.36"]),
        (0.0, 5200.0, ["0", "1,000", "2,000", "3,000", "4,000", "5,000"]),
    ],
)
def test_ticks_are_round_with_no_needless_decimals(
    low: float, high: float, labels: list[str]
) -> None:
    assert [tick["label"] for tick in Axis(low, high).ticks()] == labels


def test_wide_labels_are_thinned_and_short_ones_are_not() -> None:
    labels = [tick["label"] for tick in Axis(-2.8e6, -1.6e6).ticks()]
    assert labels == ["−2,800,000", "−2,400,000", "−2,000,000", "−1,600,000"]


def test_large_numbers_lose_decimals_that_say_nothing() -> None:
    assert formatting.decimal(-2_250_958.747) == "−2,250,959"
    assert formatting.signed(12_345.6) == "+12,346"
    assert formatting.decimal(9_999.5) == "9999.500"
    assert formatting.decimal(1.5e14) == "1.500e+14"


def test_the_end_of_a_path_is_shown() -> None:
    assert formatting.tail("/one/two/" + "m" * 40 + "/") == "…/two/" + "m" * 40
    assert formatting.tail("org/" + "m" * 40) == "org/" + "m" * 40
    assert formatting.tail("models/weak") == "models/weak"
    assert formatting.tail("n" * 80) == "n" * 80
    assert formatting.metric("exact_match") == "exact match"
    assert formatting.metric(None) == "metric"


def test_log_ticks_are_powers_of_ten() -> None:
    assert [tick["label"] for tick in Axis(0.5, 2e3, log=True).ticks()] == [
        "1.000", "10.00", "100.0", "1,000",
    ]  # fmt: skip


def test_an_axis_leaves_room_and_survives_nothing_and_one_value() -> None:
    assert axis([None]).at(0.5) == 50
    assert axis([0.3]).at(0.3) == 50
    assert 0 < (axis([0.0, 1.0]).at(0.0) or 0) < 10


def test_words_of_numbers() -> None:
    assert formatting.whole(1234567) == "1,234,567"
    assert formatting.decimal(0.8765) == "0.876"
    assert formatting.signed(-0.0125, 2) == "−0.01"
    assert formatting.decimal(0.00012) == "0.0001"
    assert formatting.percent(0.0421) == "4.2%"
    assert formatting.points(-0.013) == "−1.3 points"
    assert formatting.power(3.1e12) == "3.10 × 10¹²"
    assert formatting.measure(0.0123456) == "0.01235"
    assert formatting.measure(-2.5e-9) == "−2.50 × 10⁻⁹"
    assert [formatting.count(v) for v in (15.0, 15.5, None)] == ["15", "15.5", "–"]
    assert [formatting.seconds(v) for v in (8.06, 59.97, 200, 7500)] == [
        "8.1 s", "1 min 00 s", "3 min 20 s", "2 h 05 min",
    ]  # fmt: skip
    assert [formatting.ordinal(n) for n in (1, 2, 3, 4, 11, 22, 113)] == [
        "1st", "2nd", "3rd", "4th", "11th", "22nd", "113th",
    ]  # fmt: skip


def test_reasons_become_words_and_unknown_ones_stay() -> None:
    assert formatting.reason("unscorable:empty_response") == "unscorable: the response is empty"
    assert formatting.reason("my_own_reason") == "my own reason"
