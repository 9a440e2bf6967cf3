"""A Llama of some four million parameters taught on rows at hand: `python -m benchmarks.taught`.

Larger than any trained model that can be shipped here, so that agreement is not known from toys
alone. It reads a part of the rows once, from seeded weights, in a fixed number of steps; that is
minutes of one thread, so the folder is kept (build/benchmarks) and used again.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from benchmarks.machine import ROOT
from benchmarks.rows import END, Corpus, corpus
from benchmarks.shapes import config
from pilotfish.models import silence_loading

SHAPE = "llama-4m"
KEPT = ROOT / "build/benchmarks/taught"
STEPS, BATCH, WINDOW = 500, 8, 256  # a million tokens
RATE, WARMUP = 1.5e-3, 50


def taught(folder: Path, source: Corpus, seed: int, steps: int = STEPS) -> Path:
    """The model folder, taught now or before."""
    facts = {"shape": SHAPE, "corpus": source.name, "seed": seed, "steps": steps}
    done = folder / "taught.json"
    if done.is_file() and json.loads(done.read_text("utf-8"))["made_from"] == facts:
        return folder
    tokenizer = source.tokenizer(config(SHAPE).vocab_size)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config(SHAPE))
    losses = learn(model, stream(source, tokenizer, seed), seed, steps)
    with silence_loading():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    told = {"made_from": facts, "parameters": model.num_parameters(), "losses": losses}
    done.write_text(json.dumps(told), encoding="utf-8")
    return folder


def stream(source: Corpus, tokenizer: Any, seed: int) -> torch.Tensor:
    """[t] ids of many rows, each with an end token."""
    texts = [f"{row.asked}\n{row.response}{END}" for row in source.sample(10_000, seed)]
    cut = tokenizer(texts, verbose=False)["input_ids"]
    return torch.from_numpy(np.concatenate(cut).astype(np.int64))


def learn(model: Any, ids: torch.Tensor, seed: int, steps: int) -> list[float]:
    """Plain training with AdamW and a cosine; the mean loss of every tenth of the steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95))
    ramp = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    windows = ids[: len(ids) // WINDOW * WINDOW].view(-1, WINDOW)
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(seed))
    losses = []
    for step in range(steps):
        batch = windows[order[torch.arange(step * BATCH, (step + 1) * BATCH) % len(order)]]
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ramp.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        if step % 25 == 0:
            print(f"step {step} of {steps}: {losses[-1]:.3f} nats", flush=True)
    return [
        round(float(part.mean()), 4) for part in np.array_split(np.array(losses), min(10, steps))
    ]


def rate(step: int, steps: int) -> float:
    """Share of the peak rate."""
    if step < WARMUP:
        return (step + 1) / WARMUP
    return 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / max(steps - WARMUP, 1)))


def main() -> None:
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--steps", type=int, default=STEPS)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--out", type=Path, default=KEPT)
    options = made.parse_args()
    torch.set_num_threads(options.threads)
    print(taught(options.out, corpus(), options.seed, options.steps))


if __name__ == "__main__":
    main()
