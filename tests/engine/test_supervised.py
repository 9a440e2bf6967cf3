"""Signals of supervised tokens: those that training learns, and nothing shifted by one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pilotfish.engine.batches import measure_pass
from pilotfish.engine.forward import Forward
from pilotfish.engine.scorer import ShardScorer
from pilotfish.engine.shard_files import load_shard
from pilotfish.models import Loaded, load
from pilotfish.records import Example, Measured, Need, Turn
from pilotfish.store import Store
from pilotfish.tokenization import encode_needs, encode_training
from tests.tiny.models import byte_tokenizer, tiny_llama
from tests.tiny.pools import ListPool, asked

WIDTH = 264
KINDS = {
    "topk": Need("topk", span="supervised", size=4),
    "dense": Need("dense", span="supervised"),
    "sampled": Need("sampled", span="supervised", size=16),
}
TALK = Example("talk", "s", 0, turns=(
    Turn("user", "one"), Turn("assistant", "first answer"),
    Turn("user", "and two"), Turn("assistant", "second"),
))  # fmt: skip
ROWS = [TALK, asked("a", "p", "xyz"), asked("long", "prompt", "word " * 30)]


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """A model that after token t is sure of token t + 1, whatever stood before."""
    folder = tmp_path_factory.mktemp("counting")
    tokenizer = byte_tokenizer(chat=True)
    config = LlamaConfig(
        vocab_size=WIDTH, hidden_size=WIDTH, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=256,
        tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "o_proj" in name or "down_proj" in name:
                weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(WIDTH))
        model.lm_head.weight.copy_(torch.eye(WIDTH).roll(1, dims=0))  # row t + 1 reads token t
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load(str(folder), device="cpu")


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("weak")
    return load(str(tiny_llama(folder, seed=3, hidden=16, chat=True)), device="cpu")


def captured(
    loaded: Loaded, kind: str, root: Path, rows: list[Example], *, limit: int = 80
) -> Measured:
    need = KINDS[kind]
    scorer = ShardScorer(
        ListPool(rows), [need], loaded, Store(root), max_length=limit, token_budget=128
    )
    scorer(0)
    ids, found = load_shard(Store(root), scorer.keys[need], 0)
    assert ids.tolist() == [row.id for row in rows]
    return found


@pytest.mark.parametrize("limit", [80, 30])  # the second cuts rows, one of them in its second reply
def test_values_of_a_token_are_those_predicted_after_the_one_before(
    counting: Loaded, tmp_path: Path, limit: int
) -> None:
    found = captured(counting, "topk", tmp_path, ROWS, limit=limit)
    trained = encode_training(ROWS, counting.tokenizer, limit)
    assert any(row.truncated for row in trained)
    for place, row in enumerate(trained):
        learned = np.flatnonzero(row.target)
        likeliest = found.values["top_ids"][place].reshape(-1, 4)[:, 0]
        assert likeliest.tolist() == (row.ids[learned - 1] + 1).tolist()
        assert len(learned) == found.count[place] == row.n_response
        assert int(np.asarray(found.values["ids"])[place]) == row.digest


def test_every_reply_counts_with_its_end_mark(counting: Loaded) -> None:
    [row] = encode_needs([TALK], [KINDS["topk"]], counting.tokenizer, 80)[KINDS["topk"]]
    [trained] = encode_training([TALK], counting.tokenizer, 80)
    assert row.ids.tolist() == trained.ids.tolist()
    assert counting.tokenizer.decode(row.ids[row.target]) == "first answer<|end|>second<|end|>"


def plain_logs(loaded: Loaded, example: Example, limit: int = 80) -> np.ndarray[Any, Any]:
    """[t, v] log-probabilities at the supervised tokens, by the plain model and nothing else."""
    [row] = encode_training([example], loaded.tokenizer, limit)
    with torch.no_grad():
        logits = loaded.model(input_ids=torch.from_numpy(row.ids.astype(np.int64))[None]).logits[0]
    logits = logits[:, : len(loaded.tokenizer)].float()
    return np.asarray(logits.log_softmax(-1)[np.flatnonzero(row.target) - 1].numpy())


@pytest.mark.parametrize("example", ROWS, ids=lambda row: str(row.id))
def test_all_kinds_equal_the_plain_model(weak: Loaded, tmp_path: Path, example: Example) -> None:
    place, logs = ROWS.index(example), plain_logs(weak, example)
    dense = captured(weak, "dense", tmp_path, ROWS).values["logs"][place].reshape(logs.shape)
    np.testing.assert_allclose(dense.astype(np.float64), logs, rtol=1e-3)
    top = captured(weak, "topk", tmp_path, ROWS).values
    ids, stored = (top[name][place].reshape(-1, 4) for name in ("top_ids", "top_logs"))
    np.testing.assert_allclose(stored, np.take_along_axis(logs, ids, 1), rtol=1e-3)
    left = 1 - np.exp(np.take_along_axis(logs, ids, 1)).sum(1)
    np.testing.assert_allclose(top["rest"][place], left, rtol=1e-3)  # not renormalised


def test_ids_that_pad_the_head_get_no_mass(counting: Loaded, tmp_path: Path) -> None:
    real = len(counting.tokenizer)
    assert real < WIDTH
    with torch.no_grad():
        counting.model.lm_head.weight[real:] += 2.0  # likelier than anything that is a token
    try:
        dense = captured(counting, "dense", tmp_path, ROWS)
        logs = np.asarray(dense.values["logs"][0]).reshape(-1, real)
        np.testing.assert_allclose(np.exp(logs.astype(np.float64)).sum(1), 1, atol=1e-3)
        top = captured(counting, "topk", tmp_path, ROWS).values
        assert np.asarray(top["top_ids"][0]).max() < real
        mass = np.exp(np.asarray(top["top_logs"][0], dtype=np.float64)).reshape(-1, 4).sum(1)
        np.testing.assert_allclose(mass + top["rest"][0], 1, atol=1e-3)
        assert mass.min() > 0.9  # it was above one half of the head's padding otherwise
        drawn = captured(counting, "sampled", tmp_path, ROWS).values["draw_ids"][0]
        assert np.asarray(drawn).max() < real
    finally:
        with torch.no_grad():
            counting.model.lm_head.weight[real:] -= 2.0


def test_draws_do_not_depend_on_batch_or_order(weak: Loaded, tmp_path: Path) -> None:
    need = KINDS["sampled"]

    def drawn(rows: list[Example], budget: int) -> dict[str, list[Any]]:
        encoded = encode_needs(rows, [need], weak.tokenizer, 80)
        columns = measure_pass(encoded, Forward(weak), token_budget=budget)[need].columns
        return {
            row.id: [np.asarray(columns[name][i]).tolist() for name in ("draw_ids", "draw_weights")]
            for i, row in enumerate(rows)
        }

    first = drawn(ROWS, 1000)
    assert drawn(ROWS[::-1], 1000) == first == drawn(ROWS[1:] + ROWS[:1], 1)
    assert drawn([TALK], 1000)["talk"] == first["talk"]


def test_another_seed_draws_other_ids(weak: Loaded) -> None:
    needs = [Need("sampled", span="supervised", size=16, seed=seed) for seed in (0, 1)]
    found = []
    for need in needs:
        encoded = encode_needs(ROWS, [need], weak.tokenizer, 80)
        columns = measure_pass(encoded, Forward(weak), token_budget=500)[need].columns
        found.append(np.asarray(columns["draw_ids"][0]).tolist())
    assert found[0] != found[1]
    assert needs[0].name != needs[1].name


def test_weights_of_draws_are_unbiased(weak: Loaded) -> None:
    """Over many seeds their mean is the distribution, within five standard errors."""
    encoded = encode_training(ROWS[1:2], weak.tokenizer, 80)
    logs, draws = plain_logs(weak, ROWS[1]), 400
    mean, seeds = np.zeros(logs.shape), 25
    forward = Forward(weak)
    for seed in range(seeds):
        need = Need("sampled", span="supervised", size=draws, seed=seed)
        columns = measure_pass({need: encoded}, forward, token_budget=500)[need].columns
        ids, weights = (
            np.asarray(columns[name][0]).reshape(-1, draws) for name in ("draw_ids", "draw_weights")
        )
        np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
        np.add.at(mean, (np.arange(len(ids))[:, None], ids), weights / seeds)
    q = np.exp(logs.astype(np.float64))
    error = np.sqrt(q * (1 - q) / (draws * seeds))
    assert (abs(mean - q) < 5 * error + 1e-9).all()


def test_a_lost_shard_is_captured_again_and_no_other(weak: Loaded, tmp_path: Path) -> None:
    pool = ListPool(ROWS[:1], ROWS[1:])
    need = KINDS["topk"]
    scorer = ShardScorer(pool, [need], weak, Store(tmp_path), max_length=80, token_budget=128)
    assert [receipt.measured != () for receipt in scorer.over(range(2))] == [True, True]
    lost = next(tmp_path.rglob("part-00001.parquet"))
    before = lost.read_bytes()
    lost.unlink()
    assert [receipt.measured != () for receipt in scorer.over(range(2))] == [False, True]
    assert lost.read_bytes() == before


def test_needs_of_scoring_and_of_training_do_not_share_a_scorer(
    weak: Loaded, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="two scorers"):
        ShardScorer(
            ListPool(ROWS), [Need("nll"), KINDS["topk"]], weak, Store(tmp_path), max_length=80
        )
