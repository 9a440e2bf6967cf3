"""Models that must not be packed, though a short probe does not show it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    DogeConfig,
    GPTJConfig,
    GptOssConfig,
    LlamaConfig,
    PhimoeConfig,
    Qwen2MoeConfig,
    RecurrentGemmaConfig,
)  # fmt: skip

from pilotfish.engine import batching_mode
from pilotfish.engine.batches import measure_rows
from pilotfish.engine.batching_mode import BatchingMode
from pilotfish.engine.forward import Forward
from pilotfish.models import Loaded
from tests.engine.shapes import COMMON, SHAPES, VOCAB, build
from tests.engine.test_forward import one_by_one, some_rows

WINDOW = 124  # a probe of it would be longer than probes may be
_LONG = {**COMMON, "pad_token_id": 0, "sliding_window": WINDOW, "max_position_embeddings": 256}
_EXPERTS = {
    "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "num_experts": 4,
    "num_experts_per_tok": 2, "use_sliding_window": True,
    "layer_types": ["full_attention", "sliding_attention"],
}  # fmt: skip
_GPTJ = GPTJConfig(
    vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, rotary_dim=4, n_positions=128,
    bos_token_id=0, eos_token_id=1,
)  # fmt: skip
_SINKS = GptOssConfig(
    **{**COMMON, "pad_token_id": 0}, head_dim=8, num_local_experts=4, num_experts_per_tok=2,
    sliding_window=8, layer_types=["sliding_attention", "full_attention"],
)  # fmt: skip


def made(config: Any, monkeypatch: pytest.MonkeyPatch, **how: Any) -> Loaded:
    """A random model of a shape that is not among SHAPES."""
    monkeypatch.setitem(SHAPES, "other", lambda: config)
    return build("other", **how)


@pytest.mark.parametrize(
    "config", [PhimoeConfig(**_LONG), DogeConfig(**_LONG), Qwen2MoeConfig(**_LONG, **_EXPERTS)]
)
def test_a_window_kept_in_a_mask_is_seen_by_long_rows(
    config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = made(config, monkeypatch)
    rows = some_rows(3, seed=3, longest=256)
    assert max(len(row.ids) for row in rows) > WINDOW + 50
    found = measure_rows(rows, Forward(loaded), signal="nll", token_budget=512)
    expected = one_by_one(loaded.model, rows)
    np.testing.assert_allclose(found.columns["total"], expected, rtol=1e-6)


def test_attention_of_its_own_is_not_packed_however_coarse_the_format(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = made(_GPTJ, monkeypatch, dtype=torch.bfloat16)
    # as trained ones have: one large number that all logits share, which hides the neighbours
    loaded.model.lm_head.bias.data.fill_(-100.0)
    assert Forward(loaded).mode == BatchingMode("padded", split_head=True)


def test_sinks_are_not_left_out_however_little_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = made(_SINKS, monkeypatch, scale=1.0, dtype=torch.bfloat16)
    assert Forward(loaded).mode == BatchingMode("padded", split_head=True)


def test_a_soft_cap_is_kept_where_logits_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = {**COMMON, "pad_token_id": 0, "lru_width": 32, "attention_window_size": 16}
    config = RecurrentGemmaConfig(**shape, logits_soft_cap=20.0)
    loaded = made(config, monkeypatch, scale=1.0, dtype=torch.bfloat16)
    after = Forward(loaded).layout.head.transform  # type: ignore[union-attr]
    assert float(after(torch.tensor(1e6))) == 20.0


def test_threads_that_share_a_model_take_turns() -> None:
    loaded, rows = build("llama"), some_rows(40)

    def totals(_: int = 0) -> list[float]:
        found = measure_rows(rows, Forward(loaded), signal="nll", token_budget=64)
        return list(found.columns["total"])

    expected = totals()
    with ThreadPoolExecutor(3) as threads:
        assert all(found == expected for found in threads.map(totals, range(9)))
    assert loaded.attention == "sdpa"


def test_out_of_memory_in_the_probe_does_not_choose_another_mode() -> None:
    loaded = build("llama")
    inner, fit = loaded.model.model.forward, [True, True, True, True, False]

    def once(*args: Any, **kwargs: Any) -> Any:
        if fit and not fit.pop(0):
            raise torch.OutOfMemoryError("out of memory")
        return inner(*args, **kwargs)

    loaded.model.model.forward = once
    forward = Forward(loaded)
    with pytest.raises(torch.OutOfMemoryError):
        _ = forward.mode
    assert forward.mode == BatchingMode("packed", split_head=True)


def test_logits_that_are_no_numbers_must_be_so_in_both() -> None:
    plain = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    plain[:, 3] = float("-inf")  # an id that the model rules out
    assert batching_mode._close(plain.clone(), plain, 1e-6)
    other = plain.clone()
    other[:, 0] += 1
    assert not batching_mode._close(
        other, plain, 1e-3
    )  # the hole must not hide what differs elsewhere
    moved = plain.clone()
    moved[0, 3], moved[0, 4] = 0.0, float("-inf")
    assert not batching_mode._close(moved, plain, 1.0)
    nothing = torch.full((4, 8), float("nan"))
    assert batching_mode._close(
        nothing.clone(), nothing, 1e-6
    )  # a broken model: its rows end `nonfinite`


@pytest.mark.parametrize(
    ("rope", "longest"),
    [
        ({"rope_type": "default"}, None),
        ({"rope_type": "dynamic"}, 64),
        ({"rope_type": "longrope", "original_max_position_embeddings": 32}, 32),
        ({"full_attention": {"rope_type": "default"},
          "sliding_attention": {"rope_type": "dynamic"}}, 64),
        ({"full_attention": {"rope_type": "default"},
          "sliding_attention": {"rope_type": "default"}}, None),
    ],
)  # fmt: skip
def test_stretched_angles_are_found_also_where_each_type_of_layer_has_its_own(
    rope: dict[str, Any], longest: int | None
) -> None:
    config = LlamaConfig(max_position_embeddings=64)
    config.rope_parameters = rope
    assert batching_mode.max_shared_length(config) == longest
