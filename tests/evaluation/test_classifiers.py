"""Evaluating a classifier: its likeliest class, and the confidence in it."""

import json
from pathlib import Path
from typing import Any

import pytest

from pilotfish.errors import UsageError
from pilotfish.evaluation import METRICS
from tests.comparison.makers import asked, labelled

torch = pytest.importorskip("torch")

CLASSES = ("bad", "good", "odd")
ROWS = [labelled(text, CLASSES[at % 3]) for at, text in enumerate(["a", "bb", "c c", "dd", "e!"])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiny.encoders import tiny_classifier, tiny_encoder

    torch.set_num_threads(1)
    base = tiny_encoder(tmp_path_factory.mktemp("base"))
    return tiny_classifier(tmp_path_factory.mktemp("head"), base, CLASSES)


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Any:
    from pilotfish.models import load_classifier

    return load_classifier(str(folder), CLASSES, device="cpu", precision="fp32")


def test_a_classifier_answers_with_its_likeliest_class(loaded: Any) -> None:
    items = METRICS["accuracy"].items(loaded, ROWS)
    for row, item in zip(ROWS, items, strict=True):
        ids = loaded.tokenizer(row.text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            shares = torch.softmax(loaded.model(input_ids=ids).logits[0], -1)
        assert item.output == CLASSES[int(shares.argmax())]
        assert item.confidence == pytest.approx(float(shares.max()), abs=1e-5)
        assert item.value == float(item.output == row.label)
        assert json.loads(item.line())["confidence"] == item.confidence
    assert {item.value for item in items} == {0.0, 1.0}


def test_a_label_the_head_does_not_have_is_missed_and_an_empty_text_not_judged(loaded: Any) -> None:
    strange, empty = METRICS["accuracy"].items(loaded, [labelled("x", "none"), labelled("", "bad")])
    assert strange.value == 0.0 and strange.output in CLASSES
    assert (empty.value, empty.output, empty.confidence) == (None, None, None)


def test_items_of_language_models_have_no_confidence(tmp_path: Path) -> None:
    from pilotfish.models import load
    from tests.tiny.models import tiny_llama

    causal = load(str(tiny_llama(tmp_path)), device="cpu", precision="fp32")
    item = METRICS["accuracy"].items(causal, [asked("q", "a"), asked("p", "b")])[0]
    assert item.confidence is None and "confidence" not in json.loads(item.line())


def test_a_folder_is_opened_as_the_kind_of_model_it_holds(folder: Path, tmp_path: Path) -> None:
    from pilotfish.experiments.evaluate import evaluate_arm, open_model
    from pilotfish.store import Run, run_lock
    from tests.tiny.models import tiny_llama

    loaded = open_model(str(folder))
    assert type(loaded.model).__name__ == "BertForSequenceClassification"
    causal = open_model(str(tiny_llama(tmp_path / "llama")))
    assert type(causal.model).__name__ == "LlamaForCausalLM"
    with run_lock(tmp_path / "run") as store:
        run = Run(store.root)
        with pytest.raises(UsageError, match="classifier, which 'loss' cannot judge"):
            evaluate_arm(run, ("naive", 0), loaded, ROWS, "loss")
