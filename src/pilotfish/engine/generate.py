"""Greedy answers to prompts, in length-sorted batches, and how sure the model was of each."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor

from pilotfish.engine.batch_plan import Distinct, distinct, plan
from pilotfish.engine.packed import in_turn
from pilotfish.models import Loaded, silence_loading
from pilotfish.records import Example, Floats, Texts
from pilotfish.tokenization import encode_prompts, end_ids, end_marker

_NO_WINDOW = 2**31

CUT_OFF, EMPTY, NONFINITE = "answer_cut_off", "empty_answer", "nonfinite"


@dataclass(frozen=True)
class Answers:
    """The greedy answers to n prompts.

    text: "" where nothing was asked or said; an answer that ran out of room as far as it came.
    confidence: in [0, 1], the mean over the tokens of the answer, its end mark among them, of the
    probability the model gave the token it chose; nan without an answer. A mean of probabilities,
    not the probability of the answer: that falls with every token, and would call long answers
    unsure.
    reason: "" where the answer is whole, else `answer_cut_off`, `empty_answer`, `nonfinite` (the
    model's logits are no numbers), or why nothing was asked (the reasons of `encode_prompts`).
    """

    text: Texts  # [n]
    confidence: Floats  # [n]
    reason: Texts  # [n]

    def __len__(self) -> int:
        return len(self.text)


def generate(
    loaded: Loaded,
    examples: Sequence[Example],
    *,
    max_new_tokens: int,
    batch_tokens: int | None = None,
) -> list[str]:
    """The model's greedy answer to every example's prompt, in order.

    An answer ends before EOS or the template's end marker. A prompt that leaves no room for
    `max_new_tokens` in the window, and plain text, which asks nothing, are answered with "".
    """
    found = answer(loaded, examples, max_new_tokens=max_new_tokens, batch_tokens=batch_tokens)
    return [str(text) for text in found.text]


def answer(
    loaded: Loaded,
    examples: Sequence[Example],
    *,
    max_new_tokens: int,
    batch_tokens: int | None = None,
) -> Answers:
    """`generate`, with the model's confidence in every answer and why a row has no whole one."""
    asked = encode_batch(loaded, examples, max_new_tokens)
    written = decode(
        loaded, asked.ids, asked.found.key, room=max_new_tokens, batch_tokens=batch_tokens,
        watch=lambda batch, longest: ConfidenceObserver(),
    )  # fmt: skip
    text, reason = np.full(len(examples), "", dtype=object), asked.reason.copy()
    confidence = np.full(len(examples), np.nan)
    for place, kind in zip(asked.places, asked.found.kind, strict=True):
        text[place], reason[place] = written[kind].text, written[kind].reason
        confidence[place] = written[kind].confidence
    return Answers(text, confidence, reason)


@dataclass(frozen=True)
class Prompts:
    """Prompts as token ids, equal ones once."""

    places: list[int]  # [m] which examples ask something
    found: Distinct  # of those m
    ids: list[NDArray[np.int32]]  # [u] one prompt of each kind
    reason: Texts  # [n] of every example


def encode_batch(loaded: Loaded, examples: Sequence[Example], room: int) -> Prompts:
    """The prompts that leave `room` tokens for an answer."""
    prompts = encode_prompts(examples, loaded.tokenizer, loaded.window or _NO_WINDOW, room)
    places = [i for i, prompt in enumerate(prompts) if not prompt.reason]
    found = distinct([prompts[i] for i in places])
    reason: Texts = np.array([prompt.reason for prompt in prompts], dtype=object)
    return Prompts(places, found, [prompts[places[i]].ids for i in found.first], reason)


class Generated(NamedTuple):
    """One answer."""

    text: str
    confidence: float  # as in Answers
    reason: str


class TokenObserver(Protocol):
    """Stands behind the logits of one batch: sees, and may decide, which token comes next."""

    chances: list[Tensor]  # per step [b], the probability of the token chosen

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """ids so far [b, t] and logits [b, v] -> logits [b, v] whose largest is taken."""
        ...


class ConfidenceObserver:
    """Changes nothing, and remembers how likely each greedy token was."""

    def __init__(self) -> None:
        self.chances: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The same logits."""
        wide = scores.float()
        self.chances.append((wide.amax(dim=-1) - wide.logsumexp(dim=-1)).exp())
        return scores


def decode(
    loaded: Loaded,
    prompts: Sequence[NDArray[np.int32]],
    keys: Sequence[bytes],
    *,
    room: int,
    batch_tokens: int | None,
    watch: Callable[[NDArray[np.int64], int], TokenObserver],
) -> list[Generated]:
    """An answer to each prompt; keys settle the order of equally long ones.

    watch: made for every batch, from the prompts' numbers in it and the length of its longest.
    """
    budget = batch_tokens or _default_budget(loaded.device)
    lengths = [len(one) + room for one in prompts]
    answers = [Generated("", float("nan"), EMPTY)] * len(prompts)
    for batch in plan(lengths, budget, tie=keys):
        chosen = [prompts[i] for i in batch]
        watching = watch(batch, max(map(len, chosen)))
        for index, one in zip(batch, _answer(loaded, chosen, room, watching), strict=True):
            answers[index] = one
    return answers


def _default_budget(device: torch.device) -> int:
    """Padded tokens per batch, answers included: generation keeps keys and values of all."""
    return 8192 if device.type == "cpu" else 65536


def _answer(
    loaded: Loaded, prompts: Sequence[Any], room: int, watch: TokenObserver
) -> list[Generated]:
    """Greedy answers of one batch, padded on the left so that all of them end together."""
    longest = max(map(len, prompts))
    ends = end_ids(loaded.tokenizer)
    pad = ends[0] if ends else 0  # masked, so any id will do
    ids = np.full((len(prompts), longest), pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = 1
    # Named one by one: whatever is left open, transformers fills from the model's own settings,
    # and sampling or a repetition penalty would make the answer no longer the greedy one.
    greedy = transformers.GenerationConfig(
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        max_new_tokens=room,
        eos_token_id=ends or None,
        pad_token_id=pad,
    )
    with silence_loading(), in_turn(), torch.inference_mode():
        written = loaded.model.generate(
            input_ids=torch.from_numpy(ids).to(loaded.device),
            attention_mask=torch.from_numpy(mask).to(loaded.device),
            generation_config=greedy,
            logits_processor=transformers.LogitsProcessorList([watch]),
        )
    fresh = written[:, longest:].cpu().numpy()
    chances = torch.stack(watch.chances[: fresh.shape[1]], dim=1).double().cpu().numpy()
    return [_read(*pair, loaded.tokenizer, ends) for pair in zip(fresh, chances, strict=True)]


def _read(ids: NDArray[Any], chances: Floats, tokenizer: Any, ends: Sequence[int]) -> Generated:
    """The answer that begins with `ids` [t], each of which had one of `chances` [t]."""
    stop = np.flatnonzero(np.isin(ids, ends))
    kept = ids[: stop[0]] if len(stop) else ids
    text, marker = _decode(kept, tokenizer), end_marker(tokenizer)
    ended, used = bool(len(stop)), len(kept) + bool(len(stop))
    if marker and marker in text:  # no single token: written out, it ends the answer as well
        parts = (size for size in range(len(kept)) if marker in _decode(kept[:size], tokenizer))
        text, ended, used = text.partition(marker)[0], True, next(parts, len(kept))
    sure = float(chances[:used].mean())
    if not math.isfinite(sure):
        return Generated("", float("nan"), NONFINITE)
    return Generated(text, sure, EMPTY if not text else "" if ended else CUT_OFF)


def _decode(ids: NDArray[Any], tokenizer: Any) -> str:
    return str(
        tokenizer.decode(ids.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    )
