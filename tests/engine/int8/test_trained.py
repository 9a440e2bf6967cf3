"""Agreement with fp32 on trained models: the shipped ones, and a real one where the data lies."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from pilotfish.demo.build import build
from pilotfish.demo.models import shipped
from pilotfish.engine.int8.model import quantize
from pilotfish.models import Loaded, load
from tests.examples.test_tinystories import converter

Rows = list[tuple[torch.Tensor, int]]  # ids [t], and where the response begins


def cut(loaded: Loaded, pairs: Iterable[tuple[str, str]]) -> Rows:
    rows = []
    for prompt, response in pairs:
        before = loaded.tokenizer(f"{prompt}\n\n")["input_ids"]
        after = loaded.tokenizer(response, add_special_tokens=False)["input_ids"]
        ids = torch.tensor((before + after)[: min(loaded.window or 256, 256)])
        if len(before) < len(ids):
            rows.append((ids, len(before)))
    return rows


def both(loaded: Loaded, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """[n] mean nats per response token in fp32, and in int8."""
    prepared = quantize(loaded)
    assert prepared.head is not None
    known, found = [], []
    with torch.inference_mode():
        for ids, start in rows:
            logits = loaded.model(ids[None]).logits[0, start - 1 : -1]
            known.append(cross_entropy(logits, ids[start:]).item())
            states = prepared.model.base_model(ids[None])[0][0, start - 1 : -1]
            found.append(prepared.head.nll(states, ids[start:]).mean().item())
    return np.array(known), np.array(found)


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    ranks = [values.argsort().argsort() for values in (one, other)]
    return float(np.corrcoef(*ranks)[0, 1])


@pytest.mark.parametrize("name", ["weak", "strong"])
def test_shipped_models(name: str, tmp_path: Path) -> None:
    world = build(tmp_path, seed=0, pool_rows=300, dirty="dirty", trusted_rows=5, test_rows=5)
    lines: list[Any] = [json.loads(line) for line in world.pool.read_text("utf-8").splitlines()]
    loaded = load(str(shipped(name)), device="cpu", precision="int8")
    assert loaded.precision == "int8" and loaded.dtype == torch.float32
    rows = cut(loaded, ((line["prompt"], line["completion"]) for line in lines))
    known, found = both(loaded, rows)
    assert len(rows) > 250
    # answers of a few characters that cost up to 14 nats each: nothing averages out
    assert (found - known).std() < 0.1
    assert spearman(known, found) > 0.999


def test_tinystories_on_dolly(tmp_path: Path, data_dir: Path) -> None:
    stories = data_dir / "models" / "tinystories_260k"
    converter.convert(stories / "checkpoint_v1.bin", stories / "tokenizer.bin", tmp_path)
    with gzip.open(data_dir / "instruct" / "dolly.jsonl.gz", "rt", encoding="utf-8") as lines:
        raw = [json.loads(line) for _, line in zip(range(200), lines, strict=False)]
    loaded = load(str(tmp_path), device="cpu", precision="int8")
    rows = cut(loaded, ((line["instruction"], line["output"]) for line in raw))
    known, found = both(loaded, rows)
    assert (found - known).std() < 0.03
    assert spearman(known, found) > 0.999
