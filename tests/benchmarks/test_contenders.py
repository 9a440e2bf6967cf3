"""Every contender gives the same numbers; no speed is asserted."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks.agreement import cut, engine_ratios, net_ratio
from benchmarks.contenders import NAMES, ONE, Stage
from benchmarks.ours import Ours, model_clock, padding
from benchmarks.rank import agreement
from benchmarks.rows import Row, Words, write
from benchmarks.shapes import SHAPES, build, config

from pilotfish.flops import Shape


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    folder, words = tmp_path_factory.mktemp("stage"), Words(words=90)
    build("gpt2-124m", folder / "model", words.tokenizer(50257), seed=0, tiny=True)
    rows = [
        *words.of_lengths(np.array([3, 9, 30, 2]), np.array([5, 2, 40, 1]), 0),
        Row(" ".join(["w1"] * 70), "w2 w3"),  # no room for its response
        Row("w4 w5", "w6 w7 w8"),
    ]
    data = write(rows, folder / "rows.jsonl")
    return Stage(folder / "model", data, tuple(rows), folder, 64)


@pytest.mark.parametrize("name", [each for each in NAMES if each not in (ONE, "ours_int8")])
def test_same_numbers(stage: Stage, name: str) -> None:
    one, other = stage.make(ONE), stage.make(name)
    for each in (one, other):
        each.prepare()
        each.run()
    found = agreement(one.numbers(), other.numbers())
    # the row without room, and the one-token response alone, have no number
    assert (found["rows"], found["scored_by_one"]) == (4, 0)
    assert found["max_difference"] < (1e-2 if name == "ours_bf16" else 1e-5)


def test_a_second_run_measures_again(stage: Stage) -> None:
    ours = Ours(stage.model, stage.data, stage.work / "twice", precision="fp32", max_length=64)
    spent = []
    for _ in range(2):
        ours.prepare()
        with model_clock() as clock:
            ours.run()
        spent.append(len(clock))
    assert spent[0] == spent[1] > 0
    assert ours.lengths().tolist()[:3] == [5, 2, 34]  # 64 - 30 of 40


def test_padding_counts_positions_that_enter_the_model(stage: Stage) -> None:
    ours = Ours(stage.model, stage.data, stage.work / "padding", precision="fp32", max_length=64)
    assert 0 <= padding(ours) < 0.03


def test_published_sizes() -> None:
    import torch
    from transformers import AutoModelForCausalLM

    sizes = {"gpt2-124m": 124e6, "llama-135m": 135e6, "qwen2.5-0.5b": 494e6}
    for name, parameters in sizes.items():
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config(name))
        assert sum(w.numel() for w in model.parameters()) == pytest.approx(parameters, rel=0.01)
    assert sizes.keys() < SHAPES.keys()


def test_a_tiny_twin_keeps_the_vocabulary(tmp_path: Path) -> None:
    shape = build("llama-135m", tmp_path, Words().tokenizer(49152), seed=0, tiny=True)
    assert shape == Shape(body=shape.body, vocab=49152, width=16, layers=1)


def test_net_speed_pays_for_what_is_measured_again() -> None:
    ratios = {"fp32": 1.5, "int8": 4.5}
    assert net_ratio(0.0, "int8", ratios) == 4.5
    assert net_ratio(0.1, "int8", ratios) == pytest.approx(1 / (1 / 4.5 + 0.1 / 1.5), abs=1e-3)
    assert net_ratio(0.1, "bf16", ratios) is None
    assert engine_ratios(Path("absent.json")) == {}


def test_an_audited_cut_picks_what_fp32_picks() -> None:
    rng = np.random.default_rng(0)
    exact = np.exp(rng.normal(-0.3, 0.3, 8000))
    exact[7] = np.nan
    fast = exact * np.exp(rng.normal(0, 1e-3, 8000))
    found = cut(fast, exact, rng.integers(5, 200, 8000))
    assert found["picked"] == 800 and found["swapped_audited"] == 0
    assert found["swapped_unaudited"] > 0 and found["remeasured"] < 0.5
