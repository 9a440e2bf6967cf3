"""Train the shipped base weights: `python -m pilotfish.demo.pretrain --out DIR`.

Both models are trained on the same text: prompts of the pre-training split, half of them answered
right and half by the task's wrong habit. So they have every skill, and no preference for the right
behaviour. It takes about 10 minutes on two idle cores, most of them for the strong model.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from pilotfish.demo.models import SHAPES, base_model, tokenizer
from pilotfish.demo.splits import items

Batch = tuple[torch.Tensor, torch.Tensor]
"""Token ids [b, t], and labels [b, t] that are -100 on padding."""


@dataclass(frozen=True)
class Pretraining:
    """Settings of AdamW with a fixed batch, a short warm-up and a cosine schedule to zero."""

    steps: int
    learning_rate: float
    batch: int = 128
    warmup: float = 0.05  # share of the steps
    seed: int = 0


RUNS: dict[str, Pretraining] = {
    "weak": Pretraining(steps=2000, learning_rate=4e-3),
    "strong": Pretraining(steps=3000, learning_rate=2e-3),
}


def texts(seed: int) -> Iterator[str]:
    """Yield training texts endlessly: prompt, blank line, answer (EOS is appended later)."""
    rng = Random(f"{seed} pretrain")
    for item in items("pretrain", rng):
        answer = item.answer if rng.random() < 0.5 else item.task.habit(item.argument)
        yield f"{item.prompt}\n\n{answer}"


def batches(seed: int, size: int) -> Iterator[Batch]:
    """Yield right-padded batches of texts endlessly; every token is a target."""
    encode, stream = tokenizer(), texts(seed)
    while True:
        rows = [encode(text)["input_ids"] + [encode.eos_token_id] for text in islice(stream, size)]
        width = max(map(len, rows))
        ids = torch.tensor([row + [encode.eos_token_id] * (width - len(row)) for row in rows])
        lengths = torch.tensor([len(row) for row in rows])
        padding = torch.arange(width)[None, :] >= lengths[:, None]
        yield ids, ids.masked_fill(padding, -100)


def pretrain(name: str, run: Pretraining, *, on_step: Callable[[int, float], None]) -> Any:
    """Train one base model from its config.

    Args:
        name: A name from SHAPES.
        run: The settings.
        on_step: Called after each step with its number, from 1, and the loss in nats per token.
    """
    model = base_model(name, seed=run.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=run.learning_rate, weight_decay=0.01)
    warmup = int(run.warmup * run.steps)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, 1.0, warmup),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, run.steps - warmup),
        ],
        [warmup],
    )
    model.train()
    for step, (ids, labels) in enumerate(islice(batches(run.seed, run.batch), run.steps)):
        # Padding lies right of every target, so a causal model needs no attention mask.
        logits = model(input_ids=ids).logits[:, :-1]
        loss = cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        on_step(step + 1, loss.item())
    return model.eval()


def save(model: Any, folder: Path) -> None:
    """Write an ordinary model folder: config, tokenizer, model.safetensors."""
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def main() -> None:
    """Train and save the models named on the command line, printing the loss every 250 steps."""
    parser = argparse.ArgumentParser(description="Pre-train the tiny world's base models.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", choices=sorted(SHAPES), action="append")
    chosen = parser.parse_args()
    for name in chosen.model or list(SHAPES):
        started = time.monotonic()

        def show(step: int, loss: float, name: str = name, started: float = started) -> None:
            if step % 250 == 0:
                seconds = time.monotonic() - started
                print(f"{name}: step {step}, {loss:.3f} nats per token, {seconds:.0f} s")

        save(pretrain(name, RUNS[name], on_step=show), chosen.out / name)


if __name__ == "__main__":
    main()
