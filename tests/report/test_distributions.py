"""Histograms count every finite value once, whatever the values are."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.report.charts import histogram as positions
from pilotfish.report.distributions import BARS, histogram, rank_correlation, source_shares

anything = st.floats(allow_nan=True, allow_infinity=True, width=64)


@given(st.lists(anything, max_size=60), st.booleans())
def test_every_finite_value_lands_in_one_bar(values: list[float], some: bool) -> None:
    array = np.asarray(values, dtype=np.float64)
    mask = np.arange(len(array)) % 2 == 0
    told = histogram(array, {"even": mask, "odd": ~mask})
    finite = np.isfinite(array)
    if not finite.any():
        assert told["edges"] == []
        return
    counts = {group["name"]: sum(group["counts"]) for group in told["groups"]}
    assert counts == {"even": int((mask & finite).sum()), "odd": int((~mask & finite).sum())}
    assert all(math.isfinite(edge) for edge in told["edges"])
    assert told["edges"] == sorted(told["edges"])
    drawn = positions(told)
    assert all(0 <= bar["x"] <= 100 for group in drawn["groups"] for bar in group["bars"])
    assert all(0 <= tick["x"] <= 100 for tick in drawn["ticks"])


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=80))
def test_whole_numbers_get_whole_bars(values: list[int]) -> None:
    array = np.asarray(values, dtype=np.float64)
    told = histogram(array, {"all": np.ones(len(array), dtype=bool)}, whole=True)
    widths = np.diff(told["edges"])
    assert len(widths) <= BARS
    assert widths[0] == int(widths[0])
    assert sum(told["groups"][0]["counts"]) == len(values)


def test_a_long_tail_is_drawn_at_the_edge_and_counted() -> None:
    values = np.concatenate([np.linspace(0, 1, 999), [1e9]])
    told = histogram(values, {"all": np.ones(1000, dtype=bool)})
    assert told["edges"][-1] < 2
    assert told["above"] >= 1
    assert sum(told["groups"][0]["counts"]) == 1000


def test_scale_is_logarithmic_where_positive_values_span_decades() -> None:
    values = np.logspace(0, 5, 200)
    told = histogram(values, {"all": np.ones(200, dtype=bool)})
    assert told["scale"] == "log"
    assert max(told["groups"][0]["counts"]) <= 6
    assert histogram(values - 5, {"all": np.ones(200, dtype=bool)})["scale"] == "linear"


def test_median_by_hand() -> None:
    told = histogram(np.asarray([4.0, 1.0, np.nan, 2.0, 3.0]), {"all": np.ones(5, dtype=bool)})
    assert told["groups"][0]["median"] == 2.5
    assert told["groups"][0]["rows"] == 4


def test_rank_correlation_by_hand() -> None:
    first = np.asarray([1.0, 2.0, 3.0, 4.0])
    assert rank_correlation(first, np.exp(first)) == pytest.approx(1)
    assert rank_correlation(first, -first) == pytest.approx(-1)
    assert rank_correlation(first, np.asarray([1.0, 1.0, 2.0, 2.0])) == pytest.approx(
        0.894427, abs=1e-6
    )
    assert rank_correlation(first, np.ones(4)) is None
    assert rank_correlation(first[:2], first[:2]) is None
    assert rank_correlation(np.asarray([1, np.nan, 2, 3.0]), first) == pytest.approx(1)


def test_source_shares_by_hand() -> None:
    sources = np.asarray(["b", "a", "a", "a"], dtype=object)
    first, second = source_shares(sources, np.asarray([True, True, False, False]))
    assert (first["source"], first["rows"], first["kept"]) == ("a", 3, 1)
    assert (first["share"], first["kept_share"], first["shift"]) == (0.75, 0.5, -0.25)
    assert second["shift"] == 0.25
