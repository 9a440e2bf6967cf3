"""Sampled answers: the same on every machine of a kind, whatever other rows are answered."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pilotfish.engine.generate import Generated, decode, encode_batch
from pilotfish.errors import UsageError
from pilotfish.models import Loaded
from pilotfish.records import Example, Ints

Draw = tuple[bytes, int]  # identifies a sample: digest of the prompt's ids, number of the sample


def sample(
    loaded: Loaded,
    examples: Sequence[Example],
    *,
    samples: int,
    temperature: float,
    seed: int,
    max_new_tokens: int,
    batch_tokens: int | None = None,
) -> list[list[Generated] | str]:
    """Draw answers to each example's prompt.

    A token is drawn from the whole distribution (no top-k, no top-p) by inverse transform
    sampling, at a point that is a hash of seed, prompt, sample number and position. So a draw
    depends on the other rows of its batch only as far as their rounding reaches the logits, and
    equal prompts get equal samples.

    Args:
        loaded: A causal language model.
        examples: The n rows; their own answers are not read.
        samples: Answers per row.
        temperature: Divides the logits.
        seed: Another seed draws other answers.
        max_new_tokens: Tokens per answer.
        batch_tokens: Padded tokens per batch, answers included; None for a default of the device.

    Returns:
        For each example its samples, or the reason why it has none.

    Raises:
        UsageError: `samples` is below 1, or the temperature is not above 0.
    """
    if samples < 1 or not 0 < temperature < float("inf"):
        raise UsageError(
            f"cannot draw {samples} samples at temperature {temperature}",
            hint="--samples must be at least 1 and --temperature above 0",
        )
    prompts = encode_batch(loaded, examples, max_new_tokens)
    draws = [(key, number) for key in prompts.found.key for number in range(samples)]
    written = decode(
        loaded,
        [ids for ids in prompts.ids for _ in range(samples)],
        [key + number.to_bytes(4, "big") for key, number in draws],
        Sampler(draws, seed=seed, temperature=temperature, vocabulary=len(loaded.tokenizer)),
        room=max_new_tokens,
        batch_tokens=batch_tokens,
    )
    found: list[list[Generated] | str] = [str(reason) for reason in prompts.reason]
    for place, kind in zip(prompts.places, prompts.found.kind, strict=True):
        found[place] = written[kind * samples : (kind + 1) * samples]
    return found


class Sampler:
    """Draws one token per row and makes it the only one that can be taken."""

    def __init__(
        self, draws: Sequence[Draw], *, seed: int, temperature: float, vocabulary: int
    ) -> None:
        """Prepare the draws of all batches.

        Args:
            draws: What identifies each of the answers.
            seed: Another seed draws other answers.
            temperature: Divides the logits.
            vocabulary: Ids from here on only pad the head and are never drawn.
        """
        self.chances: list[Tensor] = []  # at the temperature
        self._draws, self._seed = draws, seed
        self._temperature, self._vocabulary = temperature, vocabulary

    def start(self, batch: Ints, longest: int) -> None:
        """Begin a batch."""
        self.chances = []
        self._batch, self._longest = [self._draws[i] for i in batch], longest

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return logits [b, v]: 0 at the token drawn, -inf elsewhere."""
        position = input_ids.shape[1] - self._longest
        points = [point(self._seed, draw, position) for draw in self._batch]
        tokens, chances = pick(scores[:, : self._vocabulary], points, self._temperature)
        self.chances.append(chances)
        forced = torch.full_like(scores, -torch.inf)
        return forced.scatter_(1, tokens.to(scores.device)[:, None], 0.0)


def point(seed: int, draw: Draw, position: int) -> float:
    """Return a number in [0, 1) with 53 random bits that depends on the arguments only."""
    key, number = draw
    text = f"{seed}:{number}:{position}:".encode() + key
    return (int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 11) / 2**53


def pick(logits: Tensor, points: Sequence[float], temperature: float) -> tuple[Tensor, Tensor]:
    """Draw one token per row.

    The sums are float64: in fp32, a vocabulary of 10^5 loses its tail.

    Args:
        logits: [b, v].
        points: [b] in [0, 1), where the cumulative distribution is inverted.
        temperature: Divides the logits.

    Returns:
        Tokens [b] and their probabilities [b].
    """
    wide = (logits.cpu() if logits.device.type == "mps" else logits).double()
    chances = torch.softmax(wide / temperature, dim=-1)
    sums = chances.cumsum(dim=-1)
    at = torch.tensor(np.asarray(points), dtype=torch.float64, device=sums.device)
    tokens = torch.searchsorted(sums, (at * sums[:, -1])[:, None], right=True)[:, 0]
    tokens = tokens.clamp(max=logits.shape[1] - 1)
    return tokens, chances.gather(1, tokens[:, None])[:, 0]
