"""A weak and a strong language model made from nothing, and tasks to compare them on: for a GPU.

    export PILOTFISH_DATA=FOLDER      # holds instruct/
    python examples/w2s_pretrain.py --out runs/w2s-pretrain
    pilotfish compare examples/w2s_families.yaml

Trains a byte-level tokenizer of 8,192 tokens, a Llama of about 5 million parameters (the weak
model) and one of about 77 million (the strong one) on the instruction texts and plays that are
there. `families.jsonl` holds the short answers of other instruction families, one template of each
question, so that no question stands on two sides of a split; nothing of them is pre-trained on.
`--toy` walks the same way on a CPU in a minute, with models that know nothing.
"""

import argparse
import gzip
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from make_small_llama import small_llama
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

TEXTS = (
    "dolly.jsonl.gz", "gpteacher_roleplay.jsonl", "gsm8k_train.jsonl",
    "llamafactory_alpaca_en_demo.jsonl", "tiny_shakespeare.txt",
)  # fmt: skip
FAMILIES = "t0_mini_20.jsonl.gz"
END = "<|end|>"
SHORT, LONG = 8, 120  # words: of an answer at most, of a prompt at most


@dataclass(frozen=True)
class Sizes:
    """How large everything is. Shapes are (hidden, layers)."""

    weak: tuple[int, int]
    strong: tuple[int, int]
    vocabulary: int
    window: int
    rows: int  # of a step
    steps: int


FULL = Sizes((256, 4), (768, 10), vocabulary=8192, window=512, rows=64, steps=4000)
TOY = Sizes((32, 1), (64, 2), vocabulary=400, window=64, rows=4, steps=5)


def lines(path: Path) -> Iterator[str]:
    """The lines of a file, gzipped or not."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as handle:
        for line in handle:
            yield line.rstrip("\n")


def texts(folder: Path) -> Iterator[str]:
    """Every row's fields as one text; a play in pieces of a hundred lines."""
    for path in (folder / name for name in TEXTS):
        if path.suffix == ".txt":
            whole = list(lines(path))
            yield from ("\n".join(whole[at : at + 100]) for at in range(0, len(whole), 100))
            continue
        for line in lines(path):
            yield "\n".join(str(value) for value in json.loads(line).values() if value)


def families(folder: Path) -> Iterator[dict[str, str]]:
    """Questions with a short answer, each with the first of its templates."""
    seen: set[tuple[str, str]] = set()
    for line in lines(folder / FAMILIES):
        row = json.loads(line)
        key = (row["family"], str(row["idx"]))
        short = 0 < len(row["completion"].split()) <= SHORT
        if key not in seen and short and len(row["prompt"].split()) <= LONG:
            seen.add(key)
            yield {"prompt": row["prompt"], "completion": row["completion"].strip()}


def make_tokenizer(folder: Path, size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE, so that any text can be written."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts(folder), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END, pad_token=END)


def stream(folder: Path, words: PreTrainedTokenizerFast) -> Tensor:
    """[n] ids of all texts, each ended."""
    found = words(list(texts(folder)), add_special_tokens=False)["input_ids"]
    return torch.tensor([at for ids in found for at in (*ids, words.eos_token_id)])


def pretrain(model: Any, ids: Tensor, sizes: Sizes, *, seed: int, rate: float) -> float:
    """Plain language modelling in place, bf16 on a GPU. -> the loss of the last step, in nats."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.1, betas=(0.9, 0.95))
    draw, value = torch.Generator().manual_seed(seed), math.nan
    for step in range(sizes.steps):
        warm = min(1.0, (step + 1) / max(1, sizes.steps // 50))
        share = 0.5 * (1 + math.cos(math.pi * step / sizes.steps))
        optimizer.param_groups[0]["lr"] = rate * warm * max(0.1, share)
        at = torch.randint(len(ids) - sizes.window, (sizes.rows,), generator=draw)
        rows = torch.stack([ids[i : i + sizes.window] for i in at]).to(device)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 100 == 0 or step == sizes.steps - 1:
            value = loss.item()
            print(f"  step {step + 1}/{sizes.steps}: {value:.3f} nats", flush=True)
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/w2s-pretrain"))
    parser.add_argument("--toy", action="store_true", help="in miniature, on a CPU")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    sizes, folder = TOY if chosen.toy else FULL, Path(os.environ["PILOTFISH_DATA"]) / "instruct"
    chosen.out.mkdir(parents=True, exist_ok=True)
    rows = list(families(folder))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (chosen.out / "families.jsonl").write_text(text, encoding="utf-8")
    words = make_tokenizer(folder, sizes.vocabulary)
    ids = stream(folder, words)
    print(f"{len(rows):,} questions; {len(ids):,} tokens to pre-train on")
    for name, (hidden, layers) in {"weak": sizes.weak, "strong": sizes.strong}.items():
        model = small_llama(
            words, hidden=hidden, layers=layers, window=sizes.window, seed=chosen.seed
        )
        start = time.monotonic()
        print(f"{name}: {model.num_parameters():,} parameters")
        pretrain(model, ids, sizes, seed=chosen.seed, rate=1e-3 if name == "weak" else 6e-4)
        model.to("cpu").save_pretrained(chosen.out / name)
        words.save_pretrained(chosen.out / name)
        print(f"  {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
