"""Sampled answers: the same ones on every machine of a kind, whatever else is asked beside them."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pilotfish.engine.generate import Generated, decode, encode_batch
from pilotfish.errors import UsageError
from pilotfish.models import Loaded
from pilotfish.records import Example

Drawn = tuple[bytes, int]  # what names a draw: digest of the prompt's ids, number of the sample


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
    """For every example `samples` answers drawn at a temperature, or the reason why none.

    A token is drawn from the whole distribution (no top-k, no top-p) by the inverse of its
    cumulative sum, at a point that a hash of seed, prompt, sample number and position gives. So a
    draw depends on the other rows of its batch only as far as their last digits reach the logits,
    and equal prompts get equal samples. Raises UsageError without a sample or with a temperature
    that is not above 0.
    """
    if samples < 1 or not 0 < temperature < float("inf"):
        raise UsageError(
            f"cannot draw {samples} samples at temperature {temperature}",
            hint="--samples must be at least 1 and --temperature above 0",
        )
    asked = encode_batch(loaded, examples, max_new_tokens)
    draws = [(key, number) for key in asked.found.key for number in range(samples)]
    vocabulary = len(loaded.tokenizer)
    written = decode(
        loaded, [ids for ids in asked.ids for _ in range(samples)],
        [key + number.to_bytes(4, "big") for key, number in draws],
        room=max_new_tokens, batch_tokens=batch_tokens,
        watch=lambda batch, longest: Draw(
            [draws[i] for i in batch], longest, seed=seed, temperature=temperature,
            vocabulary=vocabulary,
        ),
    )  # fmt: skip
    found: list[list[Generated] | str] = [str(reason) for reason in asked.reason]
    for place, kind in zip(asked.places, asked.found.kind, strict=True):
        found[place] = written[kind * samples : (kind + 1) * samples]
    return found


class Draw:
    """Draws one token per row and leaves it as the only one that can be taken."""

    def __init__(
        self,
        rows: Sequence[Drawn],
        longest: int,
        *,
        seed: int,
        temperature: float,
        vocabulary: int,
    ) -> None:
        self.chances: list[Tensor] = []  # at the temperature
        self._rows, self._longest, self._seed = rows, longest, seed
        self._temperature, self._vocabulary = temperature, vocabulary

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """ids so far [b, t] and logits [b, v] -> 0 at the token drawn, -inf elsewhere."""
        position = input_ids.shape[1] - self._longest
        points = [point(self._seed, row, position) for row in self._rows]
        tokens, chances = pick(scores[:, : self._vocabulary], points, self._temperature)
        self.chances.append(chances)
        forced = torch.full_like(scores, -torch.inf)
        return forced.scatter_(1, tokens.to(scores.device)[:, None], 0.0)


def point(seed: int, row: Drawn, position: int) -> float:
    """A number in [0, 1) with 53 random bits, a function of what is drawn alone."""
    key, number = row
    text = f"{seed}:{number}:{position}:".encode() + key
    return (int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 11) / 2**53


def pick(logits: Tensor, points: Sequence[float], temperature: float) -> tuple[Tensor, Tensor]:
    """Tokens [b] at `points` [b] of the cumulative distribution, and their probabilities [b].

    In float64: summed in fp32, a vocabulary of 10^5 loses its tail.
    """
    wide = (logits.cpu() if logits.device.type == "mps" else logits).double()
    chances = torch.softmax(wide / temperature, dim=-1)
    sums = chances.cumsum(dim=-1)
    at = torch.tensor(np.asarray(points), dtype=torch.float64, device=sums.device)
    tokens = torch.searchsorted(sums, (at * sums[:, -1])[:, None], right=True)[:, 0]
    tokens = tokens.clamp(max=logits.shape[1] - 1)
    return tokens, chances.gather(1, tokens[:, None])[:, 0]
