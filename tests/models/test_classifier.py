"""Heads that classify: a new one knows nothing, a trained one keeps its classes; refusals."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from pilotfish.errors import UsageError
from pilotfish.models import (
    classes_of,
    count_parameters,
    is_classifier,
    load,
    load_classifier,
)
from tests.tiny.encoders import tiny_classifier, tiny_encoder
from tests.tiny.models import tiny_gpt2, tiny_llama

CLASSES = ("b", "a", "none of them")
KINDS = ("bert", "bert_mlm", "distilbert", "electra", "roberta", "llama", "gpt2")


def made(folder: Path, kind: str) -> Path:
    causal = {"llama": tiny_llama, "gpt2": tiny_gpt2}
    return causal[kind](folder) if kind in causal else tiny_encoder(folder, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_head_finds_all_classes_equally_likely(kind: str, tmp_path: Path) -> None:
    loaded = load_classifier(str(made(tmp_path, kind)), CLASSES, device="cpu")
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        logits = loaded.model(input_ids=ids).logits
    torch.testing.assert_close(logits, torch.zeros(1, 3), rtol=0, atol=0)
    assert torch.log_softmax(logits, -1)[0, 0].item() == pytest.approx(-math.log(3), abs=1e-7)
    assert not loaded.model.training and not is_classifier(str(tmp_path))


@pytest.mark.parametrize("kind", KINDS)
def test_a_trained_head_comes_back_from_an_ordinary_folder(kind: str, tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path / "head", made(tmp_path / "base", kind), CLASSES)
    assert is_classifier(str(folder)) and classes_of(str(folder)) == CLASSES
    ours = load_classifier(str(folder), CLASSES, device="cpu")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    assert theirs.config.id2label == dict(enumerate(CLASSES))
    for name, weight in theirs.state_dict().items():
        assert torch.equal(weight, ours.model.state_dict()[name]), name
    assert any(weight.abs().sum() > 0 for weight in _head(ours.model))
    assert count_parameters(str(folder)) > 0


def _head(model: Any) -> list[torch.Tensor]:
    body = f"{model.base_model_prefix}."
    return [weight for name, weight in model.named_parameters() if not name.startswith(body)]


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_another_list_of_classes_is_refused(kind: str, tmp_path: Path) -> None:
    folder = str(tiny_classifier(tmp_path / "head", made(tmp_path / "base", kind), CLASSES))
    for other in (("a", "b", "none of them"), ("b", "a"), ("b", "a", "x")):
        with pytest.raises(UsageError, match="was trained for the classes b, a, none of them"):
            load_classifier(folder, other)
    with pytest.raises(UsageError, match="two distinct classes"):
        load_classifier(folder, ("a",))
    with pytest.raises(UsageError, match="two distinct classes"):
        load_classifier(folder, ("a", "a"))


@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2"])
def test_a_classifier_is_no_language_model(kind: str, tmp_path: Path) -> None:
    folder = str(tiny_classifier(tmp_path / "head", made(tmp_path / "base", kind), CLASSES))
    with pytest.raises(UsageError, match="is a classifier"):
        load(folder)
    with pytest.raises(UsageError, match="is no classifier"):
        classes_of(str(tmp_path / "base"))


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_weights_are_never_made_up_below_the_head(kind: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = made(tmp_path, kind)
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in sorted(weights) if "layers.1" in name or "layer.1" in name)
    weights.pop(lost)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match="lack 1 tensors"):
        load_classifier(str(folder), CLASSES)


def test_a_trained_head_must_be_whole(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny_classifier(tmp_path / "head", made(tmp_path / "base", "bert"), CLASSES)
    weights = load_file(folder / "model.safetensors")
    weights.pop("classifier.bias")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"lack 1 tensors.*classifier.bias"):
        load_classifier(str(folder), CLASSES)


def test_pickles_and_remote_code_are_refused(tmp_path: Path) -> None:
    folder = made(tmp_path / "bert", "bert")
    other = Path(shutil.copytree(folder, tmp_path / "pickle"))
    (other / "model.safetensors").rename(other / "pytorch_model.bin")
    with pytest.raises(UsageError, match="pickle"):
        load_classifier(str(other), CLASSES)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError):
        load_classifier(str(folder), CLASSES)


def test_the_window_leaves_out_positions_that_no_token_has(tmp_path: Path) -> None:
    roberta = load_classifier(str(tiny_encoder(tmp_path / "r", "roberta", window=32)), CLASSES)
    bert = load_classifier(str(tiny_encoder(tmp_path / "b", "bert", window=32)), CLASSES)
    assert (roberta.window, bert.window) == (31, 32)  # padding id 0: positions begin at 1
    for loaded in (roberta, bert):
        assert loaded.window
        ids = torch.full((1, loaded.window), 9)
        assert loaded.model(input_ids=ids).logits.shape == (1, 3)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_padding_id_for_other_tools_changes_no_answer(kind: str, tmp_path: Path) -> None:
    base = made(tmp_path / "base", kind)
    assert transformers.AutoTokenizer.from_pretrained(base).pad_token is None
    folder = tiny_classifier(tmp_path / "head", base, CLASSES)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["abc", "a much longer text", "x"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        together = model(**batch).logits.numpy()
        model.config.pad_token_id = None
        alone = [model(**tokenizer(each, return_tensors="pt")).logits[0].numpy() for each in texts]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-5)
