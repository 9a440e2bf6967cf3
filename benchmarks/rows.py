"""Rows to score: real instructions where the developers' data is at hand, else drawn words.

Real: rows of dolly, cut by GPT-2's tokenizer (for a smaller vocabulary its latest merges are left
out). Otherwise words of one token each, in numbers with the quantiles of those rows.
"""

import gzip
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

Ints = NDArray[np.int64]
END = "<|endoftext|>"

# Tokens of dolly rows by GPT-2's tokenizer at these shares of the rows.
SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
DOLLY = (
    (2, 7, 11, 17, 109, 259, 395, 869, 5580),  # prompts, of two kinds: with and without a text
    (1, 4, 19, 44, 93, 173, 256, 560, 5209),
)
# Mean and deviation of the logarithm of tokens: prompts of mean 32, responses of mean 85, as those
# of Alpaca's 52,002 rows are.
ALPACA = ((3.25, 0.65), (3.95, 1.00))


@dataclass(frozen=True)
class Row:
    """What is asked, and the response."""

    asked: str
    response: str


class Corpus(Protocol):
    """A source of rows and of the tokenizer that fits them."""

    name: str

    def tokenizer(self, vocabulary: int) -> Any:
        """A fast tokenizer of exactly that many ids."""

    def sample(self, count: int, seed: int) -> list[Row]:
        """Distinct rows with the lengths of real ones."""

    def of_lengths(self, prompts: Ints, responses: Ints, seed: int) -> list[Row]:
        """Rows of so many tokens each, or nearly."""


def corpus() -> Corpus:
    """Dolly, where `PILOTFISH_DATA` or the folder beside this checkout has it; else words."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("PILOTFISH_DATA", beside))
    return Dolly(folder) if (folder / "instruct/dolly.jsonl.gz").is_file() else Words()


def by_quantiles(count: int, seed: int) -> tuple[Ints, Ints]:
    """Prompt and response tokens [count] with dolly's quantiles, log-linear between them."""
    shares = np.random.default_rng(seed).random((2, count))
    prompts, responses = (
        np.exp(np.interp(share, SHARES, np.log(known))).round().astype(np.int64)
        for share, known in zip(shares, DOLLY, strict=True)
    )
    return prompts, responses


def log_normal(
    count: int, shape: tuple[tuple[float, float], tuple[float, float]], seed: int
) -> tuple[Ints, Ints]:
    """Prompt and response tokens [count] of rows with such logarithms, at least 2 each."""
    rng = np.random.default_rng(seed)
    prompts, responses = (
        np.maximum(np.exp(rng.normal(mean, deviation, count)).round(), 2).astype(np.int64)
        for mean, deviation in shape
    )
    return prompts, responses


def write(rows: Sequence[Row], path: Path) -> Path:
    """The rows as a file pilotfish reads."""
    lines = (
        json.dumps({"id": str(i), "instruction": row.asked, "input": "", "output": row.response})
        for i, row in enumerate(rows)
    )
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def read(path: Path) -> list[Row]:
    """The rows of such a file."""
    records = map(json.loads, path.read_text(encoding="utf-8").strip("\n").split("\n"))
    return [Row(record["instruction"], record["output"]) for record in records]


@dataclass(frozen=True)
class Dolly:
    """databricks-dolly-15k, read from the developers' data folder."""

    folder: Path
    name: str = "dolly rows, GPT-2 tokenizer"

    def tokenizer(self, vocabulary: int) -> Any:
        """Byte-level BPE: bytes, as many merges as fit, and the end token last."""
        merges_file = self.folder / "tokenizers/gpt2/merges.txt"
        lines = merges_file.read_text(encoding="utf-8").split("\n")[1:]
        merges = [(one, two) for one, two in (line.split() for line in lines if line)]
        known = json.loads((self.folder / "tokenizers/gpt2/vocab.json").read_text("utf-8"))
        room = min(vocabulary, len(known)) - 1
        kept = {piece: index for piece, index in known.items() if index < room}
        core = Tokenizer(models.BPE(vocab=kept | {END: room}, merges=merges[: room - 256]))
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=END, eos_token=END)

    @cached_property
    def _rows(self) -> list[Row]:
        with gzip.open(self.folder / "instruct/dolly.jsonl.gz", "rt", encoding="utf-8") as lines:
            records = [json.loads(line) for line in lines]
        return [
            Row("\n".join(filter(None, (one["instruction"], one["input"]))), one["output"])
            for one in records
        ]

    def sample(self, count: int, seed: int) -> list[Row]:
        """Rows of the file; more than it holds are not to be had."""
        chosen = np.random.default_rng(seed).permutation(len(self._rows))[:count]
        if len(chosen) < count:
            raise ValueError(f"{count} rows were asked for, dolly has {len(self._rows)}")
        return [self._rows[i] for i in chosen]

    def of_lengths(self, prompts: Ints, responses: Ints, seed: int) -> list[Row]:
        """Stretches of all the texts glued together, cut at tokens."""
        tokenizer = self.tokenizer(50257)
        texts = [text for row in self._rows for text in (row.asked, row.response)]
        cut = tokenizer(texts, return_attention_mask=False, verbose=False)["input_ids"]
        stream = [token for one in cut for token in one]
        starts = np.random.default_rng(seed).integers(0, len(stream) - 4096, 2 * len(prompts))
        lengths = np.stack([prompts, responses], axis=1).ravel()
        cuts = zip(starts, lengths, strict=True)
        found = tokenizer.batch_decode([stream[at : at + n] for at, n in cuts])
        return [Row(*pair) for pair in zip(found[::2], found[1::2], strict=True)]


@dataclass(frozen=True)
class Words:
    """Invented words, one token each."""

    name: str = "words, in numbers with the quantiles of dolly rows"
    words: int = 4000

    def tokenizer(self, vocabulary: int) -> Any:
        """One id per word, in a vocabulary of the model's size."""
        vocab = {END: vocabulary - 1} | {f"w{i}": i for i in range(vocabulary - 1)}
        core = Tokenizer(models.WordLevel(vocab=vocab, unk_token="w0"))
        core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=END, eos_token=END)

    def sample(self, count: int, seed: int) -> list[Row]:
        """Rows whose lengths follow the quantiles of dolly."""
        return self.of_lengths(*by_quantiles(count, seed), seed)

    def of_lengths(self, prompts: Ints, responses: Ints, seed: int) -> list[Row]:
        """Exactly so many words."""
        rng = np.random.default_rng([seed, 1])

        def text(length: int) -> str:
            return " ".join(f"w{i}" for i in rng.integers(1, self.words, length))

        return [Row(text(p), text(r)) for p, r in zip(prompts, responses, strict=True)]
