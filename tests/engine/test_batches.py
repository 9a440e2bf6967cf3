"""One pass, many signals: each equals the obvious computation, and none depends on the others."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.engine import batches, head
from pilotfish.engine.batches import measure_pass
from pilotfish.engine.forward import Forward
from pilotfish.records import Need, Ragged
from pilotfish.tokenization import Encoded, Passage
from tests.engine.shapes import SHAPES, VOCAB, build

K = 5
RESPONSE = {name: Need(name) for name in ("nll", "entropy", "top1", "token_nll")}
NEEDS = [
    *RESPONSE.values(),
    Need("topk", size=K),
    Need("topk", size=2, end=True),
    Need("nll", span="full"),
    Need("nll", end=True, aligned=False),
    Need("hidden"),
    Need("hidden", span="full", end=True),
]
PLAIN = ["bloom", "gemma2", "gpt2", "llama", "opt"]


def rows_for(need: Need, n: int = 9, *, seed: int = 0) -> list[Encoded]:
    """Rows of made-up ids: a prompt, a response, and one end token; the needs share passages."""
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        prompt, answer = int(draw.integers(1, 9)), int(draw.integers(2, 12))
        ids = draw.integers(0, VOCAB, prompt + answer + 1).astype(np.int32)
        first = 0 if need.pools else 1
        if need.span == "response":
            first = prompt + (0 if need.pools or not need.aligned else 1)
        stop = len(ids) - (not need.end)
        passage = Passage(ids, (prompt, prompt + 1, len(ids) - 1), prompt)
        target = np.arange(stop) >= first
        rows.append(Encoded(ids[:stop], target, prompt, answer, False, "", passage))
    return rows


def together(loaded: Any, needs: Any = NEEDS, budget: int = 64) -> Any:
    return measure_pass({n: rows_for(n) for n in needs}, Forward(loaded), token_budget=budget)


def obvious(loaded: Any, row: Encoded) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probabilities [t, v] before every counted token, its ids [t], states [t, d]."""
    ids = torch.from_numpy(row.read.ids.astype(np.int64))
    with torch.no_grad():
        logits = loaded.model(input_ids=ids[None]).logits[0].double()
        states = loaded.model.base_model(input_ids=ids[None])[0][0].double()
    counted = torch.from_numpy(np.flatnonzero(row.target))
    return logits.log_softmax(1)[counted - 1], ids[counted], states[counted]


@pytest.mark.parametrize("shape", PLAIN)
def test_each_signal_equals_the_obvious_computation(shape: str) -> None:
    loaded = build(shape)
    found = together(loaded)
    for need, measured in found.items():
        assert (measured.reason == "").all()
        for i, row in enumerate(rows_for(need)):
            logs, ids, states = obvious(loaded, row)
            nll = -logs.gather(1, ids[:, None])[:, 0]
            total = measured.columns["total"][i]
            assert measured.columns["count"][i] == len(ids)
            if need.signal in ("nll", "token_nll", "topk"):
                assert total == pytest.approx(float(nll.sum()), abs=1e-4)
            if need.signal == "entropy":
                entropy = -(logs.exp() * logs).sum(1)
                assert total == pytest.approx(float(entropy.sum()), abs=1e-4)
            if need.signal == "top1":
                assert total == float((logs.argmax(1) == ids).sum())
            if need.signal == "token_nll":
                tokens = measured.columns["tokens"][i]
                assert tokens.dtype == np.float16
                np.testing.assert_allclose(tokens, nll.numpy(), rtol=1e-3, atol=1e-4)
            if need.signal == "topk":
                top = logs.topk(need.size, dim=1)
                logged = measured.columns["top_logs"][i].reshape(-1, need.size)
                np.testing.assert_allclose(logged, top.values.numpy(), rtol=1e-3, atol=1e-3)
                assert (measured.columns["top_ids"][i] == top.indices.flatten().numpy()).all()
                rest = 1 - top.values.exp().sum(1)
                np.testing.assert_allclose(measured.columns["rest"][i], rest, atol=1e-3)
            if need.signal == "hidden":
                weights = torch.arange(1, len(ids) + 1).double()
                pooled = (weights[:, None] * states).sum(0) / weights.sum()
                np.testing.assert_allclose(measured.columns["state"][i], pooled, atol=1e-5)


@pytest.mark.parametrize("shape", ["gpt2", "bloom"])
@pytest.mark.parametrize("need", NEEDS, ids=lambda need: need.name)
def test_no_bit_depends_on_the_other_needs(shape: str, need: Need) -> None:
    loaded = build(shape)
    alone, among = together(loaded, [need])[need], together(loaded)[need]
    for name, values in alone.columns.items():
        other = among.columns[name]
        if isinstance(values, Ragged):
            assert isinstance(other, Ragged)
            assert values.flat.tobytes() == other.flat.tobytes()
            assert values.offsets.tolist() == other.offsets.tolist()
        else:
            assert values.tobytes() == np.asarray(other).tobytes()


def test_one_forward_serves_every_need(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = Forward.run

    def counted(self: Forward, passages: Any, indices: Any, queries: Any) -> None:
        seen.append(len(queries))
        real(self, passages, indices, queries)

    monkeypatch.setattr(Forward, "run", counted)
    together(build("gpt2"), budget=10_000)
    assert seen == [len(NEEDS)]


def test_the_head_does_not_run_where_only_states_are_needed() -> None:
    loaded = build("llama")
    forward = Forward(loaded)
    need = Need("hidden")
    assert forward.mode.split_head
    loaded.model.lm_head.weight.data.fill_(float("nan"))
    found = measure_pass({need: rows_for(need)}, forward, token_budget=64)[need]
    assert (found.reason == "").all()


def test_logits_of_all_tokens_never_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "tile_size", lambda _: (4, 32))
    sizes: list[tuple[int, ...]] = []
    real = head.gather

    def seen(tiles: Any, request: Any) -> Any:
        def watched() -> Any:
            for first, tile in tiles:
                sizes.append(tuple(tile.shape))
                yield first, tile

        return real(watched(), request)

    monkeypatch.setattr(head, "gather", seen)
    together(build("llama"), budget=10_000)
    assert max(size[0] for size in sizes) == 4
    assert max(size[1] for size in sizes) == 32


def test_a_row_only_some_needs_can_use_keeps_its_place_in_the_plan() -> None:
    loaded = build("gpt2")
    every, aligned = Need("nll", aligned=False), Need("nll")
    rows = {need: rows_for(need) for need in (every, aligned)}
    short = rows[aligned][3]
    none = short.ids[:0]
    rows[aligned][3] = Encoded(none, none.astype(bool), 1, 1, False, "too_few_tokens", short.read)
    both = measure_pass(rows, Forward(loaded), token_budget=64)
    one = measure_pass({aligned: rows[aligned]}, Forward(loaded), token_budget=64)
    assert both[aligned].reason[3] == one[aligned].reason[3] == "too_few_tokens"
    assert both[every].reason[3] == ""
    np.testing.assert_array_equal(both[aligned].columns["total"], one[aligned].columns["total"])


def test_values_of_equal_rows_and_of_unusable_ones() -> None:
    loaded, need = build("gpt2"), Need("token_nll")
    rows = rows_for(need, 3)
    broken = Encoded(rows[0].ids[:0], rows[0].target[:0], 0, 0, False, "empty_response")
    found = measure_pass({need: [rows[0], broken, *rows]}, Forward(loaded), token_budget=64)[need]
    tokens = found.columns["tokens"]
    assert isinstance(tokens, Ragged)
    assert tokens[0].tolist() == tokens[2].tolist()
    assert len(tokens[1]) == 0 and len(tokens) == 5
    assert np.isnan(found.columns["total"][1])


def test_a_broken_model_leaves_no_values_behind() -> None:
    loaded = build("gpt2")
    loaded.model.transformer.ln_f.weight.data.fill_(float("nan"))
    for need, found in together(loaded).items():
        assert set(found.reason) == {"nonfinite"}, need
        for name, values in found.columns.items():
            if isinstance(values, Ragged):
                assert len(values.flat) == 0
            elif values.dtype.kind == "f":
                assert np.isnan(values).all(), name


@given(seed=st.integers(0, 1000), budget=st.integers(1, 200))
@settings(max_examples=15, deadline=None)
def test_budget_and_order_do_not_matter(seed: int, budget: int) -> None:
    loaded, need = LLAMA, Need("topk", size=K)
    rows = rows_for(need, seed=seed)
    order = np.random.default_rng(seed).permutation(len(rows))
    first = measure_pass({need: rows}, FORWARD, token_budget=10_000)[need].columns
    other = measure_pass({need: [rows[i] for i in order]}, FORWARD, token_budget=budget)
    second = other[need].columns
    np.testing.assert_allclose(second["total"], first["total"][order], atol=1e-4)
    for place, row in enumerate(order):
        np.testing.assert_allclose(second["rest"][place], first["rest"][row], atol=1e-3)
    assert loaded is LLAMA


LLAMA = build("llama")
FORWARD = Forward(LLAMA)


def test_tables_hold_a_model_for_every_shape_named() -> None:
    assert set(PLAIN) <= set(SHAPES)
    assert batches.SIGNALS.keys() == {
        "nll", "token_nll", "entropy", "top1", "topk", "hidden", "dense", "sampled",
    }  # fmt: skip
