"""Superfiltering's signals against the published algorithm run one row at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2TokenizerFast

from pilotfish.engine.batches import measure_rows
from pilotfish.engine.forward import Forward
from pilotfish.models import Loaded, load
from pilotfish.records import Measured, Need
from pilotfish.tokenization import encode_scoring
from tests.engine.published_superfiltering import losses
from tests.tiny.models import tiny_llama
from tests.tiny.pools import asked

MAX_LENGTH = 48
GIVEN = Need("nll", text="superfiltering")
ALONE = Need("nll", text="superfiltering", given="nothing")

# (prompt as the chat's user turn, response): every edge the published code has an opinion on
ROWS = [
    ("Name three primary colours.", "Red, yellow and blue."),
    ("Add the numbers.\n12 and 30", "42"),
    ("Say yes.", "Yes"),
    ("Say one letter.", "y"),
    ("Say nothing.", ""),
    ("Tell me everything. " * 40, "No."),
    ("Tell me a lot. " * 10, "That will not fit into the window at all, I fear. " * 5),
    ("Count.", "one two three four five six seven eight nine ten " * 12),
    ("Übersetze: 日本語 🐟", "naïve café — 魚 🐠🐠"),
    ("Name three primary colours.", "Red, yellow and blue."),
    ("Repeat: ha", "ha ha ha\nha"),
    ("ends in space ", " begins with space"),
    ("", "no instruction at all"),
    ("control <|endoftext|> here", "and <|endoftext|> there"),
    ("exactly at the boundary " * 9, "x y z"),
]


@pytest.fixture(scope="module")
def gpt2(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """A GPT-2 of two layers with the real tokenizer, its logits far from uniform."""
    from transformers import GPT2Config, GPT2LMHeadModel

    source = data_dir / "tokenizers" / "gpt2"
    tokenizer = GPT2TokenizerFast(
        vocab=str(source / "vocab.json"), merges=str(source / "merges.txt")
    )
    torch.manual_seed(3)
    model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64))
    model.transformer.wte.weight.data.mul_(20)
    folder = tmp_path_factory.mktemp("gpt2")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load(str(folder), device="cpu")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """A Llama shape whose tokenizer puts a start token in front."""
    return load(str(tiny_llama(tmp_path_factory.mktemp("llama"), bos=True)), device="cpu")


@pytest.fixture(params=["gpt2", "llama"])
def loaded(request: pytest.FixtureRequest) -> Iterator[Loaded]:
    yield request.getfixturevalue(request.param)


def ours(loaded: Loaded, need: Need) -> Measured:
    rows = [asked(str(i), prompt, response) for i, (prompt, response) in enumerate(ROWS)]
    encoded = encode_scoring(rows, need, loaded.tokenizer, MAX_LENGTH)
    found = measure_rows(encoded, Forward(loaded), signal="nll", token_budget=256)
    return Measured(found.columns["total"], found.columns["count"], found.reason)


def theirs(loaded: Loaded) -> np.ndarray:
    pairs: list[Any] = [
        losses(loaded.model, loaded.tokenizer, prompt, response, MAX_LENGTH)
        for prompt, response in ROWS
    ]
    return np.array(pairs)


def test_equal_to_the_published_numbers(loaded: Loaded) -> None:
    expected = theirs(loaded)
    given, alone = ours(loaded, GIVEN), ours(loaded, ALONE)
    np.testing.assert_allclose(given.mean, expected[:, 0], rtol=1e-5)  # nan where nan
    np.testing.assert_allclose(alone.mean, expected[:, 1], rtol=1e-5)
    ifd = np.exp(given.mean - alone.mean)
    np.testing.assert_allclose(ifd, np.exp(expected[:, 0] - expected[:, 1]), rtol=1e-5)
    assert np.isfinite(ifd).sum() >= 9


def test_every_row_without_a_number_has_a_reason(loaded: Loaded) -> None:
    for measured in (ours(loaded, GIVEN), ours(loaded, ALONE)):
        assert ((measured.reason == "") == np.isfinite(measured.mean)).all()


def test_reasons_of_the_edge_rows(gpt2: Loaded) -> None:
    given, alone = ours(gpt2, GIVEN).reason, ours(gpt2, ALONE).reason
    assert (given[4], alone[4]) == ("empty_response", "empty_response")
    assert (given[5], alone[5]) == ("prompt_over_limit", "prompt_over_limit")
    assert (given[2], alone[2]) == ("", "too_few_tokens")
    assert given[0] == given[9] == ""


def test_the_first_token_counts_only_given_the_prompt(gpt2: Loaded, llama: Loaded) -> None:
    for loaded, more in ((gpt2, 1), (llama, 0)):
        given, alone = ours(loaded, GIVEN), ours(loaded, ALONE)
        assert given.count[0] == alone.count[0] + more
    # cut rows get one token more alone, which makes up for the first one
    assert ours(gpt2, GIVEN).count[7] == ours(gpt2, ALONE).count[7]
