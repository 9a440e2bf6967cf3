"""FLOPs, agreement, commands: what the benchmarks compute without a model."""

import numpy as np
import pytest
from benchmarks.flops import plain, useful
from benchmarks.machine import command
from benchmarks.rank import agreement, overlap

from pilotfish.flops import Shape, forward

GPT2 = Shape(body=85_056_000, vocab=50257, width=768, layers=12)


def test_useful_work_is_the_ledgers_where_every_token_is_scored() -> None:
    assert useful(GPT2, 1000, 1000) == forward(GPT2, 1000) == plain(GPT2, 1000)


def test_heads_at_tokens_nobody_scores_count_for_the_peer_alone() -> None:
    saved = plain(GPT2, 1000) - useful(GPT2, 1000, 400)
    assert saved == 600 * 2 * 50257 * 768
    assert useful(GPT2, 1000, 0) == 2 * 85_056_000 * 1000


def test_agreement_by_hand() -> None:
    exact = {"prompt": np.array([1.0, 2.0, 3.0, np.nan]), "nothing": np.array([2.0, 2.0, 2.0, 2.0])}
    other = {"prompt": np.array([1.5, 2.0, 1.0, np.nan]), "nothing": exact["nothing"]}
    found = agreement(exact, other)
    assert found["rows"] == 3 and found["scored_by_one"] == 0
    assert found["max_difference"] == 2.0
    assert found["rms_difference"] == pytest.approx(np.sqrt((0.25 + 4) / 6))
    assert found["spearman"] == pytest.approx(-0.5)  # ranks 1, 2, 3 against 2, 3, 1
    assert found["overlap_top_10"] == 0.0


def test_a_row_that_one_alone_scores_is_counted() -> None:
    exact = {"prompt": np.array([1.0, 2.0]), "nothing": np.array([1.0, 1.0])}
    other = {"prompt": np.array([1.0, np.nan]), "nothing": np.array([1.0, 1.0])}
    found = agreement(exact, other)
    assert (found["rows"], found["scored_by_one"], found["spearman"]) == (1, 1, None)


def test_overlap_of_the_highest() -> None:
    one = np.arange(20.0)
    assert overlap(one, one, 0.1) == 1.0
    assert overlap(one, np.where(one == 19, -1, one), 0.1) == 0.5


def test_a_command_does_not_say_where_its_output_went() -> None:
    assert command("engine", ["--quick", "--out", "/there/x.json", "--seed", "3"]) == (
        "python -m benchmarks.engine --quick --seed 3"
    )
    assert command("engine", ["--out=/there/x.json"]) == "python -m benchmarks.engine"
