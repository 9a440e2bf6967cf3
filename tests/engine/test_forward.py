"""Batches give the numbers of one row at a time, for every shape of model."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pilotfish.engine import head, packed
from pilotfish.engine.batches import measure_rows
from pilotfish.engine.batching_mode import BatchingMode, ModelLayout
from pilotfish.engine.forward import Forward
from pilotfish.errors import UsageError
from pilotfish.tokenization import Encoded
from tests.engine.shapes import SHAPES, VOCAB, build


def some_rows(n: int = 12, *, seed: int = 0, longest: int = 40) -> list[Encoded]:
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        length = int(draw.integers(2, longest))
        target = draw.random(length) < 0.6
        target[0], target[-1] = False, True
        ids = draw.integers(0, VOCAB, length).astype(np.int32)
        rows.append(Encoded(ids, target, 0, length, False))
    return rows


def one_by_one(model: Any, rows: Sequence[Encoded]) -> np.ndarray:
    """The obvious way: full logits of a single unpadded row, cross-entropy of its targets."""
    totals = []
    for row in rows:
        ids = torch.from_numpy(row.ids.astype(np.int64))
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0].float()
        nats = torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")
        totals.append(float(nats[torch.from_numpy(row.target[1:])].double().sum()))
    return np.array(totals)


def totals(loaded: Any, rows: Sequence[Encoded], budget: int = 128) -> np.ndarray:
    found = measure_rows(rows, Forward(loaded), signal="nll", token_budget=budget)
    assert (found.reason == "").all()
    return found.columns["total"]


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_equal_to_one_row_at_a_time(shape: str) -> None:
    loaded, rows = build(shape), some_rows()
    count = np.array([row.target.sum() for row in rows])
    expected = one_by_one(loaded.model, rows)
    assert np.ptp(expected / count) > 1e-3  # the model tells these rows apart
    np.testing.assert_allclose(totals(loaded, rows) / count, expected / count, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_these_shapes_are_packed_and_their_head_is_apart(shape: str) -> None:
    expected = BatchingMode("padded" if shape == "bloom" else "packed", split_head=True)
    assert Forward(build(shape)).mode == expected


@pytest.mark.parametrize("batching", ["padded", "masked"])
@pytest.mark.parametrize("split_head", [True, False])
@pytest.mark.parametrize("shape", ["gpt2", "qwen2", "opt"])
def test_the_fallback_modes_agree_too(shape: str, batching: str, split_head: bool) -> None:
    loaded, rows = build(shape), some_rows()
    forward = Forward(loaded)
    which = forward.layout.head if split_head else head.WholeHead()
    forward.layout = ModelLayout(BatchingMode(batching, split_head), loaded.model, which)
    found = measure_rows(rows, forward, signal="nll", token_budget=128)
    expected = one_by_one(loaded.model, rows)
    np.testing.assert_allclose(found.columns["total"], expected, rtol=1e-5)


def test_a_model_that_mixes_its_neighbours_is_not_packed() -> None:
    loaded = build("llama")
    inner = loaded.model.model.forward

    def leaks(*args: Any, **kwargs: Any) -> Any:
        out = inner(*args, **kwargs)
        steps = torch.arange(1, out[0].shape[1] + 1)[None, :, None]
        out[0].add_(out[0].cumsum(dim=1) / steps)  # a running mean over the sequence
        return out

    loaded.model.model.forward = leaks
    rows = some_rows()
    assert Forward(loaded).mode == BatchingMode("padded", split_head=True)
    np.testing.assert_allclose(totals(loaded, rows), one_by_one(loaded.model, rows), rtol=1e-5)


def test_no_token_of_another_row_reaches_a_packed_row() -> None:
    loaded, rows = build("mistral"), some_rows()
    first = totals(loaded, rows, 10_000)
    changed = [replace(row, ids=(row.ids + 7 * (i > 0)) % VOCAB) for i, row in enumerate(rows)]
    again = totals(loaded, changed, 10_000)
    assert again[0] == first[0]
    assert (again[1:] != first[1:]).all()


def test_neighbours_are_padded_for_attention_only_where_that_is_cheap() -> None:
    even, odd = [7, 7, 7], [40, 39, 38, 9, 8, 2]
    [group] = packed.layout(even, torch.device("cpu")).groups
    assert (group.rows, group.longest, group.even) == (3, 7, True)
    groups = packed.layout(odd, torch.device("cpu")).groups
    assert [(g.rows, g.longest) for g in groups] == [(3, 40), (2, 9), (1, 2)]
    assert [g.begin for g in groups] == [0, 117, 134]
    assert packed.layout(odd, torch.device("cpu")).positions[0, 115:120].tolist() == [
        36,
        37,
        0,
        1,
        2,
    ]


def test_batch_size_and_order_do_not_matter() -> None:
    loaded, rows = build("llama"), some_rows()
    reference = totals(loaded, rows)
    for budget in (1, 40, 10_000):
        np.testing.assert_allclose(totals(loaded, rows, budget), reference, atol=1e-4, rtol=0)
    order = np.random.default_rng(1).permutation(len(rows))
    shuffled = totals(loaded, [rows[i] for i in order])
    assert shuffled.tolist() == reference[order].tolist()  # to the bit: same plan


def test_the_tile_of_the_vocabulary_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, rows = build("gpt2"), some_rows()
    reference = totals(loaded, rows)
    monkeypatch.setattr(head, "tile_size", lambda _: (5, 7))
    np.testing.assert_allclose(totals(loaded, rows), reference, atol=1e-4, rtol=0)


def test_equal_rows_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, rows = build("gpt2"), some_rows(3)
    reference = totals(loaded, rows)
    runs: list[int] = []
    real = Forward.run

    def counted(self: Forward, passages: Sequence[Any], indices: Any, queries: Any) -> None:
        runs.append(len(passages))
        real(self, passages, indices, queries)

    monkeypatch.setattr(Forward, "run", counted)
    assert totals(loaded, rows * 5).tolist() == reference.tolist() * 5
    assert sum(runs) == 3


def test_uniform_logits_cost_the_log_of_the_vocabulary() -> None:
    loaded, rows = build("gpt2"), some_rows(4)
    loaded.model.lm_head.weight.data.zero_()
    count = np.array([row.target.sum() for row in rows])
    np.testing.assert_allclose(totals(loaded, rows) / count, np.log(VOCAB), rtol=1e-6)


def test_parts_of_a_text_add_up_to_the_whole() -> None:
    loaded = build("llama")
    [row] = some_rows(1)
    ids = row.ids
    spans = [np.arange(len(ids)) >= 1, np.zeros(len(ids), bool), np.zeros(len(ids), bool)]
    spans[1][1:4], spans[2][4:] = True, True
    whole, begin, end = totals(loaded, [Encoded(ids, t, 0, 0, False) for t in spans])
    assert whole == pytest.approx(begin + end, abs=1e-4)


def test_a_broken_model_gives_a_reason_and_no_number() -> None:
    loaded, rows = build("gpt2"), some_rows(3)
    loaded.model.transformer.ln_f.weight.data.fill_(float("nan"))
    found = measure_rows(rows, Forward(loaded), signal="nll", token_budget=99)
    assert found.reason.tolist() == ["nonfinite"] * 3
    assert np.isnan(found.columns["total"]).all()
    assert found.columns["count"].tolist() == [0] * 3


def test_rows_with_a_reason_pass_through_and_load_nothing() -> None:
    nothing = Encoded(np.zeros(0, np.int32), np.zeros(0, bool), 0, 0, False, "empty_response")
    found = measure_rows([nothing], Forward(None), signal="nll", token_budget=9)  # type: ignore[arg-type]
    assert found.reason.tolist() == ["empty_response"]


def test_an_id_without_an_embedding_costs_only_its_row() -> None:
    loaded, rows = build("llama"), some_rows(3)
    rows[1].ids[2] = VOCAB
    found = measure_rows(rows, Forward(loaded), signal="nll", token_budget=99)
    assert found.reason.tolist() == ["", "model_error", ""]


class Starved(Forward):
    """A device with memory for so many tokens."""

    room = 0

    def run(self, passages: Sequence[Any], indices: Any, queries: Any) -> None:
        if sum(len(passage.ids) for passage in passages) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        super().run(passages, indices, queries)


def test_out_of_memory_halves_the_budget_for_all_rows() -> None:
    loaded, rows = build("llama"), some_rows(longest=20)
    starved = Starved(loaded)
    starved.room = 50
    found = measure_rows(rows, starved, signal="nll", token_budget=400)
    assert found.token_budget == 50
    assert found.columns["total"].tolist() == totals(loaded, rows, 50).tolist()


def test_a_row_too_big_alone_costs_only_itself() -> None:
    loaded, rows = build("llama"), some_rows(longest=20)
    starved = Starved(loaded)
    starved.room = 10
    found = measure_rows(rows, starved, signal="nll", token_budget=400)
    big = np.array([len(row.ids) > 10 for row in rows])
    assert 0 < big.sum() < len(rows)
    assert (found.reason == np.where(big, "oom_single_row", "")).all()
    assert np.isnan(found.columns["total"][big]).all()
    np.testing.assert_allclose(
        found.columns["total"][~big], totals(loaded, rows)[~big], atol=1e-4, rtol=0
    )


def test_other_errors_are_not_taken_for_memory() -> None:
    class Broken(Forward):
        def run(self, passages: Any, indices: Any, queries: Any) -> None:
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        measure_rows(some_rows(2), Broken(build("gpt2")), signal="nll", token_budget=9)


def test_a_model_that_sees_its_padding_is_refused() -> None:
    loaded = build("llama")
    inner = loaded.model.forward

    def looks_ahead(*args: Any, **kwargs: Any) -> Any:
        out = inner(*args, **kwargs)
        out.logits = out.logits + kwargs["input_ids"].shape[1]
        out.logits[..., 0] += 50.0 * kwargs["input_ids"].shape[1]
        return out

    loaded.model.forward = looks_ahead
    with pytest.raises(UsageError, match="one row at a time"):
        _ = Forward(loaded).mode


def test_bf16_stays_near_fp32() -> None:
    rows = some_rows()
    count = np.array([row.target.sum() for row in rows])
    wide = totals(build("llama", scale=2.0), rows) / count
    narrow = totals(build("llama", scale=2.0, dtype=torch.bfloat16), rows) / count
    np.testing.assert_allclose(narrow, wide, atol=0.05)
