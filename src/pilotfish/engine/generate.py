"""Answers to prompts in length-sorted batches, and the model's confidence in each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor

from pilotfish.engine.batches import Distinct, distinct, plan
from pilotfish.engine.packed import attention_lock
from pilotfish.models import Loaded, silence_loading
from pilotfish.records import Example, Floats, Ints, Texts
from pilotfish.tokenization import encode_prompts, end_ids, end_marker

_NO_WINDOW = 2**31

CUT_OFF, EMPTY, NONFINITE = "answer_cut_off", "empty_answer", "nonfinite"


@dataclass(frozen=True)
class Answers:
    """The greedy answers to n prompts.

    text: "" without a prompt or an answer; a cut-off answer as far as it goes.
    confidence: in [0, 1], the mean probability of the tokens of the answer, its end mark included;
    nan without an answer. It is not the probability of the answer: that falls with every token,
    and would call long answers unsure.
    reason: "" where the answer is whole, else `answer_cut_off`, `empty_answer`, `nonfinite` (the
    model's logits are not finite), or why there is no prompt (the reasons of `encode_prompts`).
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
    """Return the text of the model's greedy answer to every example; see `answer`."""
    found = answer(loaded, examples, max_new_tokens=max_new_tokens, batch_tokens=batch_tokens)
    return [str(text) for text in found.text]


def answer(
    loaded: Loaded,
    examples: Sequence[Example],
    *,
    max_new_tokens: int,
    batch_tokens: int | None = None,
) -> Answers:
    """Generate the model's greedy answer to every example's prompt.

    An answer ends before EOS or the template's end marker. The answer is "" for plain text, which
    has no prompt, and for a prompt that leaves no room for `max_new_tokens` in the window.

    Args:
        loaded: A causal language model.
        examples: The n rows; their own answers are not read.
        max_new_tokens: Tokens per answer.
        batch_tokens: Padded tokens per batch, answers included; None for a default of the device.
    """
    prompts = encode_batch(loaded, examples, max_new_tokens)
    written = decode(
        loaded,
        prompts.ids,
        prompts.found.key,
        ConfidenceObserver(),
        room=max_new_tokens,
        batch_tokens=batch_tokens,
    )
    text, reason = np.full(len(examples), "", dtype=object), prompts.reason.copy()
    confidence = np.full(len(examples), np.nan)
    for place, kind in zip(prompts.places, prompts.found.kind, strict=True):
        text[place], reason[place] = written[kind].text, written[kind].reason
        confidence[place] = written[kind].confidence
    return Answers(text, confidence, reason)


@dataclass(frozen=True)
class Prompts:
    """Prompts of n examples as token ids, equal ones once."""

    places: list[int]  # [m] which examples have a prompt
    found: Distinct  # groups of equal prompts among those m
    ids: list[NDArray[np.int32]]  # [u] one prompt of each group
    reason: Texts  # [n] "", or why an example has no prompt


def encode_batch(loaded: Loaded, examples: Sequence[Example], room: int) -> Prompts:
    """Encode the prompts that leave `room` tokens for an answer."""
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
    """A logits processor: sees, and may decide, the next token of every row of a batch."""

    chances: list[Tensor]  # per step of the batch [b], the probability of the chosen token

    def start(self, batch: Ints, longest: int) -> None:
        """Begin a batch: indices [b] of its prompts, and the length of its longest prompt."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return logits [b, v] whose largest is taken, from ids [b, t] and logits [b, v]."""
        ...


class ConfidenceObserver:
    """Changes no logit, and records the probability of each greedy token."""

    def __init__(self) -> None:
        self.chances: list[Tensor] = []

    def start(self, batch: Ints, longest: int) -> None:
        """Begin a batch."""
        self.chances = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the same logits."""
        wide = scores.float()
        self.chances.append((wide.amax(dim=-1) - wide.logsumexp(dim=-1)).exp())
        return scores


def decode(
    loaded: Loaded,
    prompts: Sequence[NDArray[np.int32]],
    keys: Sequence[bytes],
    observer: TokenObserver,
    *,
    room: int,
    batch_tokens: int | None,
) -> list[Generated]:
    """Generate an answer to each prompt.

    Args:
        loaded: A causal language model.
        prompts: Token ids [t] of the n prompts.
        keys: n digests that order equally long prompts.
        observer: Sees every step; its `start` is called once per batch.
        room: Tokens per answer.
        batch_tokens: Padded tokens per batch, answers included; None for a default of the device.
    """
    budget = batch_tokens or generation_budget(loaded.device)
    lengths = [len(one) + room for one in prompts]
    answers = [Generated("", float("nan"), EMPTY)] * len(prompts)
    for batch in plan(lengths, budget, tie=keys):
        chosen = [prompts[i] for i in batch]
        observer.start(batch, max(map(len, chosen)))
        for index, one in zip(batch, _decode_batch(loaded, chosen, room, observer), strict=True):
            answers[index] = one
    return answers


def generation_budget(device: torch.device) -> int:
    """Return padded tokens per batch, answers included: keys and values of all are kept."""
    return 8192 if device.type == "cpu" else 65536


def _decode_batch(
    loaded: Loaded, prompts: Sequence[NDArray[np.int32]], room: int, observer: TokenObserver
) -> list[Generated]:
    """Answer one batch, padded on the left so that all prompts end together."""
    longest = max(map(len, prompts))
    ends = end_ids(loaded.tokenizer)
    pad = ends[0] if ends else 0  # masked, so any id will do
    ids = np.full((len(prompts), longest), pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = 1
    # Every setting is given: transformers fills the others from the model's own, and sampling or a
    # repetition penalty would make the answer no longer the greedy one.
    greedy = transformers.GenerationConfig(
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        max_new_tokens=room,
        eos_token_id=ends or None,
        pad_token_id=pad,
    )
    with silence_loading(), attention_lock(), torch.inference_mode():
        written = loaded.model.generate(
            input_ids=torch.from_numpy(ids).to(loaded.device),
            attention_mask=torch.from_numpy(mask).to(loaded.device),
            generation_config=greedy,
            logits_processor=transformers.LogitsProcessorList([observer]),
        )
    fresh = written[:, longest:].cpu().numpy()
    chances = torch.stack(observer.chances[: fresh.shape[1]], dim=1).double().cpu().numpy()
    return [_answer_of(*pair, loaded.tokenizer, ends) for pair in zip(fresh, chances, strict=True)]


def _answer_of(
    ids: NDArray[Any], chances: Floats, tokenizer: Any, ends: Sequence[int]
) -> Generated:
    """Cut generated ids [t], with their probabilities [t], where the answer ends."""
    stop = np.flatnonzero(np.isin(ids, ends))
    kept = ids[: stop[0]] if len(stop) else ids
    text, marker = _decode(kept, tokenizer), end_marker(tokenizer)
    ended, used = bool(len(stop)), len(kept) + bool(len(stop))
    if marker and marker in text:  # a marker of several tokens ends the answer as well
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
