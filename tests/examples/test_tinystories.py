"""The 260K converter: golden text, both layouts, and a by-hand checkpoint that needs no data."""

import importlib.util
import json
import struct
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def load(name: str) -> ModuleType:
    return load_file(EXAMPLES / f"{name}.py")


def load_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


converter = load("convert_tinystories")


@pytest.fixture(scope="module")
def stories(data_dir: Path) -> Path:
    folder = data_dir / "models" / "tinystories_260k"
    if not folder.is_dir():
        pytest.skip("TinyStories 260K absent: set PILOTFISH_DATA to the folder of real data")
    return folder


@pytest.fixture(scope="module", params=["legacy", "v1"])
def converted(request: Any, stories: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp(request.param)
    checkpoint = stories / f"checkpoint_{request.param}.bin"
    converter.convert(checkpoint, stories / "tokenizer.bin", out)
    return Path(out)


def test_greedy_text_is_the_published_one(converted: Path, stories: Path) -> None:
    golden = json.loads((stories / "expected_outputs.jsonl").read_text().splitlines()[0])
    model = AutoModelForCausalLM.from_pretrained(converted)
    words = AutoTokenizer.from_pretrained(converted)
    bos = torch.tensor([[words.bos_token_id]])
    ids = model.generate(
        bos,
        attention_mask=torch.ones_like(bos),
        max_new_tokens=200,
        do_sample=False,
        pad_token_id=words.unk_token_id,
    )
    text = words.decode(ids[0], skip_special_tokens=True)
    assert len(text) == 464
    assert text == golden["expected"]


def test_both_layouts_hold_the_same_weights(stories: Path) -> None:
    first, second = (
        converter.read_checkpoint(stories / f"checkpoint_{layout}.bin")
        for layout in ("legacy", "v1")
    )
    assert first[0] == second[0] == converter.Header(64, 172, 5, 8, 4, 512, 512)
    assert first[1].keys() == second[1].keys()
    for name, tensor in first[1].items():
        np.testing.assert_array_equal(tensor, second[1][name], err_msg=name)


@pytest.mark.parametrize(
    "text",
    [
        "Once upon a time",
        'Lily\'s mom said, "no".\n\nThe end',
        "caf\u00e9 \u65e5\u672c",
        "two  spaces",
        " lead",
    ],
)
def test_text_survives_the_tokenizer(converted: Path, text: str) -> None:
    words = AutoTokenizer.from_pretrained(converted)
    ids = words(text)["input_ids"]
    assert ids[0] == words.bos_token_id == 1
    assert words.unk_token_id not in ids
    assert words.decode(ids, skip_special_tokens=True) == text


def test_merging_agrees_with_the_slow_obvious_version(converted: Path, stories: Path) -> None:
    pieces = converter.read_pieces(stories / "tokenizer.bin", 512)
    words = AutoTokenizer.from_pretrained(converted)
    for line in (stories / "expected_outputs.jsonl").read_text().splitlines():
        text = json.loads(line)["expected"]
        assert words(text)["input_ids"][1:] == slow_merge(text, pieces)


def slow_merge(text: str, pieces: list[tuple[str, float]]) -> list[int]:
    """Characters (or bytes), then again and again the best-scored neighbouring pair."""
    number = {piece: index for index, (piece, _) in enumerate(pieces)}
    parts: list[str] = []
    for char in "\u2581" + text.replace(" ", "\u2581"):
        parts += [char] if char in number else [f"<0x{byte:02X}>" for byte in char.encode()]
    while True:
        joined = [a + b for a, b in pairwise(parts)]
        scores = [pieces[number[j]][1] if j in number else -np.inf for j in joined]
        if not scores or max(scores) == -np.inf:
            return [number[part] for part in parts]
        best = int(np.argmax(scores))
        parts[best : best + 2] = [joined[best]]


def test_half_split_by_hand() -> None:
    # one head of four rows: pairs (0, 1) and (2, 3) become halves (0, 2) and (1, 3)
    rows = np.arange(4, dtype=np.float32)[:, None]
    assert converter.half_split(rows, 1)[:, 0].tolist() == [0, 2, 1, 3]
    assert converter.half_split(np.arange(8, dtype=np.float32)[:, None], 2)[:, 0].tolist() == [
        *[0, 2, 1, 3],
        *[4, 6, 5, 7],
    ]


def checkpoint(path: Path, *, layout: str) -> Path:
    """A tiny checkpoint whose tensors are numbered so that either layout can be told apart."""
    header = converter.Header(8, 12, 2, 2, 1, 16, 32)
    order = converter.LEGACY if layout == "legacy" else converter.VERSION_1
    values = {
        name: np.random.default_rng(index).normal(size=shape).astype("<f4")
        for index, (name, shape) in enumerate(sorted(header.shapes().items()))
    }
    numbers = struct.pack("<7i", 8, 12, 2, 2, 1, 16, 32)
    head = numbers if layout == "legacy" else struct.pack("<Ii", converter.MAGIC, 1) + numbers
    head = head if layout == "legacy" else head.ljust(256, b"\0")
    tail = b"\0" * (0 if layout == "v1" else 4 * 32 * 4)
    path.write_bytes(head + b"".join(values[name].tobytes() for name in order) + tail)
    return path


def test_layouts_of_a_made_up_checkpoint_agree_through_the_model(tmp_path: Path) -> None:
    ids = torch.arange(10)[None, :]
    out = []
    for layout in ("legacy", "v1"):
        model = converter.build_model(
            *converter.read_checkpoint(checkpoint(tmp_path / layout, layout=layout))
        )
        out.append(model(ids).logits)
    assert torch.equal(*out)
    assert out[0].std() > 0


def test_an_unknown_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v2.bin"
    path.write_bytes(struct.pack("<Ii7i", converter.MAGIC, 2, *range(7)))
    with pytest.raises(SystemExit, match="version 2"):
        converter.read_checkpoint(path)
