"""Classifiers: padding, order and batches change nothing, and states are pooled as documented."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pilotfish.engine.classify import classify
from pilotfish.models import Loaded, load_classifier
from pilotfish.records import Example
from tests.tiny.encoders import tiny_classifier, tiny_encoder
from tests.tiny.models import tiny_gpt2, tiny_llama
from tests.tiny.pools import asked

CLASSES = ("x", "y", "z")
TEXTS = ["a", "hello there", "b c d", "a", "q" * 50, "the last [SEP] one", "zz"]


def rows(texts: list[str]) -> list[Example]:
    return [Example(str(i), "d", i, text=text, label="x") for i, text in enumerate(texts)]


@pytest.fixture(
    scope="module", params=["bert", "distilbert", "electra", "roberta", "llama", "gpt2"]
)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    torch.set_num_threads(1)
    base: Path = tmp_path_factory.mktemp("base")
    causal = {"llama": tiny_llama, "gpt2": tiny_gpt2}
    if request.param in causal:
        causal[request.param](base)
    else:
        tiny_encoder(base, request.param)
    folder = tiny_classifier(tmp_path_factory.mktemp("head"), base, CLASSES)
    return load_classifier(str(folder), CLASSES, device="cpu", precision="fp32")


def test_answers_are_those_of_one_text_at_a_time(loaded: Loaded) -> None:
    found = classify(loaded, rows(TEXTS), states=True)
    assert found.states is not None and set(found.reason) == {""}
    for at, text in enumerate(TEXTS):
        ids = loaded.tokenizer(text, split_special_tokens=True, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            out = loaded.model(input_ids=ids, output_hidden_states=True)
        expected = torch.log_softmax(out.logits[0].double(), -1).numpy()
        np.testing.assert_allclose(found.log_probs[at], expected, atol=1e-5)
        last = out.hidden_states[-1][0]
        pooled = last[-1] if hasattr(loaded.model, "score") else last.mean(0)
        np.testing.assert_allclose(found.states[at], pooled.numpy(), atol=1e-5)


@pytest.mark.parametrize("budget", [1, 40, 10_000])
def test_order_batches_and_padding_change_nothing(loaded: Loaded, budget: int) -> None:
    whole = classify(loaded, rows(TEXTS), states=True)
    turn = [4, 2, 6, 0, 5, 1, 3]
    found = classify(loaded, rows([TEXTS[i] for i in turn]), states=True, token_budget=budget)
    assert whole.states is not None and found.states is not None
    np.testing.assert_allclose(found.log_probs, whole.log_probs[turn], atol=1e-5)
    np.testing.assert_allclose(found.states, whole.states[turn], atol=1e-5)
    assert np.ptp(whole.log_probs[:, 0]) > 1e-3  # the texts do differ


def test_long_texts_are_cut_and_counted_and_empty_ones_named(loaded: Loaded) -> None:
    found = classify(loaded, rows(["z" * 999, "", "ok", " \n"]), max_length=20, states=True)
    assert found.truncated is not None and found.truncated.tolist() == [True, False, False, False]
    assert found.reason.tolist() == ["", "empty_text", "", "empty_text"]
    assert np.isfinite(found.log_probs[[0, 2]]).all() and np.isnan(found.log_probs[[1, 3]]).all()
    assert found.states is not None and np.isnan(found.states[[1, 3]]).all()


def test_a_text_as_long_as_the_window_is_read(loaded: Loaded) -> None:
    found = classify(loaded, rows(["z" * 999]), max_length=100_000)
    assert np.isfinite(found.log_probs).all()


def test_no_texts_give_no_predictions(loaded: Loaded) -> None:
    found = classify(loaded, [])
    assert found.log_probs.shape == (0, 3) and len(found.reason) == 0


def test_a_prompt_is_classified_without_its_answer(loaded: Loaded) -> None:
    prompted = classify(
        loaded, [asked("0", "hello there", "x"), asked("1", "hello there", "other")]
    )
    plain = classify(loaded, rows(["hello there"]))
    np.testing.assert_allclose(prompted.log_probs, plain.log_probs[[0, 0]], atol=1e-5)
