"""Models from configs: sizes, tokenizer, determinism, and the shipped folders."""

import dataclasses
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pilotfish.demo.models import EOS, SHAPES, WINDOW, base_model, shipped, tokenizer
from pilotfish.demo.pretrain import RUNS, Pretraining, batches, pretrain, save, texts
from pilotfish.errors import UsageError
from pilotfish.records import Example, Need, Turn
from pilotfish.tokenization import encode_scoring, encode_training


def test_every_text_of_the_world_survives_the_tokenizer_within_the_window() -> None:
    words = tokenizer()
    for text in islice(texts(1), 500):
        ids = words(text)["input_ids"]
        assert ids[0] == words.bos_token_id
        assert len(ids) == 1 + len(text) < WINDOW
        assert words.unk_token_id not in ids
        assert words.decode(ids, skip_special_tokens=True) == text


def test_tokenizer_keeps_its_ids_and_knows_its_end() -> None:
    words = tokenizer()
    assert len(words) == 99
    assert (words.eos_token_id, words.bos_token_id, words.unk_token_id) == (0, 1, 2)
    assert words.pad_token is None and words.chat_template is None
    assert words("a" + EOS)["input_ids"][-1] == 0
    assert words("\u00e9")["input_ids"] == [1, 2]
    assert words.decode(words("a , b .")["input_ids"], skip_special_tokens=True) == "a , b ."


def test_pretraining_reads_rows_exactly_as_training_and_scoring_write_them() -> None:
    words = tokenizer()
    ids, _ = next(batches(0, 1))
    prompt, answer = next(texts(0)).split("\n\n")
    row = Example("0", "", 0, turns=(Turn("user", prompt), Turn("assistant", answer)))
    (trained,) = encode_training([row], words, WINDOW)
    (scored,) = encode_scoring([row], Need("nll"), words, WINDOW)
    assert ids[0].tolist() == list(trained.ids)
    assert ids[0].tolist()[: len(scored.ids)] == list(scored.ids)
    # Even a one-character answer is scored alone.
    (alone,) = encode_scoring([row], Need("nll", given="nothing"), words, WINDOW)
    assert int(alone.target.sum()) == len(answer)


@pytest.mark.parametrize(("name", "low", "high"), [("weak", 5e4, 8e4), ("strong", 3.5e5, 5e5)])
def test_sizes(name: str, low: float, high: float) -> None:
    assert low < base_model(name, seed=0).num_parameters() < high


def test_models_repeat_with_their_seed_and_leave_the_global_stream_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, same, other = (base_model("weak", seed=s).state_dict() for s in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    name = "model.embed_tokens.weight"
    assert torch.equal(one[name], same[name]) and not torch.equal(one[name], other[name])


def test_an_unknown_model_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="did you mean 'strong'"):
        shipped("stong")
    with pytest.raises(UsageError, match="did you mean 'weak'"):
        base_model("weal", seed=0)


def test_batches_hide_padding_and_keep_the_real_end() -> None:
    ids, labels = next(batches(0, 32))
    assert ids.shape == labels.shape
    for row, target in zip(ids.tolist(), labels.tolist(), strict=True):
        size = sum(label != -100 for label in target)
        assert target[:size] == row[:size] and target[size - 1] == 0
        assert set(target[size:]) <= {-100}


def test_pretraining_repeats_and_learns(tmp_path: Path) -> None:
    run = Pretraining(steps=30, learning_rate=4e-3, batch=16)
    losses: list[list[float]] = [[], []]
    models = [
        pretrain("weak", run, on_step=lambda step, loss, seen=seen: seen.append(loss))
        for seen in losses
    ]
    assert losses[0] == losses[1]
    assert sum(losses[0][-5:]) < 0.8 * sum(losses[0][:5])
    save(models[0], tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([[1, 6, 7]])
    assert torch.equal(again(ids).logits, models[1](ids).logits)


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_shipped_folders_are_ordinary_and_fit_the_code(name: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(shipped(name))
    words = AutoTokenizer.from_pretrained(shipped(name))
    assert model.dtype == torch.float32
    assert model.num_parameters() == base_model(name, seed=0).num_parameters()
    assert words.get_vocab() == tokenizer().get_vocab()


def test_shipped_weights_are_small() -> None:
    files = [path for name in SHAPES for path in shipped(name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 4 * 2**20
    assert all(path.suffix in {".json", ".safetensors"} for path in files)


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_shipped_models_know_the_tasks_and_the_habits(name: str) -> None:
    """Pre-trained text costs them far less than a fresh model's log of 98 characters."""
    model = AutoModelForCausalLM.from_pretrained(shipped(name))
    ids, labels = next(batches(99, 200))
    with torch.no_grad():
        logits = model(input_ids=ids).logits[:, :-1]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
    assert loss.item() < 1.2


def test_runs_are_complete() -> None:
    assert RUNS.keys() == SHAPES.keys()
    assert all(dataclasses.is_dataclass(run) for run in RUNS.values())
