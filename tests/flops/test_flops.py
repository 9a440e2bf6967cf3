"""The ledger: formulas by hand, additivity, and what the selected arm is charged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.flops import (
    Cost,
    Shape,
    break_even,
    by_name,
    by_stage,
    charged,
    forward,
    generation,
    per_token,
    training,
)

TINY = Shape(body=1000, vocab=50, width=8, layers=2)


def event(stage, name="x", **facts):
    return {"kind": "cost", "at": 1.0, "stage": stage, "name": name, **facts}


def test_forward_by_hand():
    # 2 * 1000 + 2 * 8 * 50 + 4 * 2 * 10 * 8
    assert per_token(TINY, 10) == 2000 + 800 + 640
    assert forward(TINY, 7, context=10) == 7 * 3440


def test_full_training_is_three_forwards_and_lora_two():
    one = forward(TINY, 100, context=10)
    assert training(TINY, 100, context=10) == 3 * one
    assert training(TINY, 100, context=10, lora=True) == 2 * one
    assert training(TINY, 100, context=10, recompute=True) == 4 * one
    assert training(TINY, 100, context=10, lora=True, recompute=True) == 3 * one


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_formulas_add_over_phases(a, b):
    assert forward(TINY, a) + forward(TINY, b) == pytest.approx(forward(TINY, a + b))
    assert training(TINY, a) + training(TINY, b) == pytest.approx(training(TINY, a + b))


def test_generation_equals_token_by_token():
    prompt, new = 6, 4
    slow = sum(per_token(TINY, prompt / 2) for _ in range(prompt))
    # the k-th new token sees the prompt and half of itself plus k tokens, on average
    slow += sum(per_token(TINY, prompt + k + 0.5) for k in range(new))
    assert generation(TINY, prompt, new) == pytest.approx(slow)
    assert generation(TINY, prompt, new, rows=3) == pytest.approx(3 * slow)


def test_break_even_of_the_guide():
    weak, strong = Shape(500_000_000, 0, 0, 0), Shape(8_000_000_000, 0, 0, 0)
    assert break_even(weak, strong, passes=2, epochs=1) == pytest.approx(1 / 24)
    assert break_even(weak, strong, passes=2, epochs=1, lora=True) == pytest.approx(1 / 16)
    assert break_even(weak, strong, passes=2, epochs=2) == pytest.approx(1 / 48)


def test_the_head_counts_for_a_small_scorer():
    # a 124M model: 85M body, 50257 x 768 head
    small = Shape(85_000_000, 50_257, 768, 12)
    assert per_token(small) / (2 * small.body) == pytest.approx(1.45, abs=0.01)


def test_shape_from_configs():
    llama = {"vocab_size": 50, "hidden_size": 8, "num_hidden_layers": 2}
    tied = Shape.of({**llama, "tie_word_embeddings": True}, 1400)
    untied = Shape.of({**llama, "tie_word_embeddings": False}, 1800)
    gpt2 = Shape.of({"vocab_size": 50, "n_embd": 8, "n_layer": 2}, 1400)
    assert tied == untied == gpt2 == TINY


def test_a_config_without_a_width_is_refused():
    with pytest.raises(KeyError, match="hidden_size"):
        Shape.of({"vocab_size": 50}, 1400)


def test_interrupted_stages_add_up_and_unknown_is_not_zero():
    table = by_stage(
        [
            event("score", seconds=2.0, rows=10, tokens=100, flops=1e6),
            {"kind": "stopped", "stage": "score", "seconds": 99},
            event("score", seconds=3.0, rows=5, tokens=50, flops=5e5),
            event("select", seconds=0.5, rows=15),
        ]
    )
    assert list(table) == ["score", "select"]
    assert table["score"] == Cost(5.0, 15, 150, 1.5e6)
    assert table["select"] == Cost(0.5, 15, None, None)
    assert table["select"].as_dict()["flops"] is None


def test_stages_sum_to_the_whole():
    events = [
        event(stage, seconds=s, flops=10 * s) for stage, s in zip("abab", range(4), strict=True)
    ]
    assert sum(by_stage(events).values(), Cost()) == Cost(6.0, None, None, 60.0)


def test_arms_stand_apart_inside_a_stage():
    events = [
        event("train", "random seed 0", seconds=1.0),
        event("train", "selected seed 0", seconds=2.0),
        event("train", "selected seed 0", seconds=4.0),
        event("judge", "selected seed 0", seconds=9.0),
    ]
    assert by_name(events, "train")["selected seed 0"].seconds == 6.0
    assert list(by_name(events, "train")) == ["random seed 0", "selected seed 0"]


def test_the_selected_arm_is_charged_for_its_selection_and_nothing_else():
    events = [
        event("tune", seconds=1.0, flops=1.0),
        event("score", seconds=10.0, flops=10.0),
        event("select", seconds=100.0),
        event("train", seconds=1000.0, flops=1000.0),
        event("judge", seconds=1000.0),
    ]
    assert charged(events) == Cost(111.0, None, None, 11.0)
    assert charged([]) == Cost()
