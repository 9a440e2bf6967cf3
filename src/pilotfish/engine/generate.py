"""Greedy answers to prompts, in length-sorted batches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers

from pilotfish.encode import encode_prompts, end_ids, end_marker
from pilotfish.engine.packed import in_turn
from pilotfish.engine.plan import distinct, plan
from pilotfish.models import Loaded, quiet
from pilotfish.records import Example

_NO_WINDOW = 2**31


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
    window = loaded.window or _NO_WINDOW
    prompts = encode_prompts(examples, loaded.tokenizer, window, max_new_tokens)
    asked = [i for i, prompt in enumerate(prompts) if not prompt.reason]
    found = distinct([prompts[i] for i in asked])
    ids = [prompts[asked[i]].ids for i in found.first]
    budget = batch_tokens or _default_budget(loaded.device)
    lengths = [len(one) + max_new_tokens for one in ids]
    answers = [""] * len(ids)
    for batch in plan(lengths, budget, tie=found.key):
        texts = _answer(loaded, [ids[i] for i in batch], max_new_tokens)
        for index, text in zip(batch, texts, strict=True):
            answers[index] = text
    written = [""] * len(examples)
    for place, kind in zip(asked, found.kind, strict=True):
        written[place] = answers[kind]
    return written


def _default_budget(device: torch.device) -> int:
    """Padded tokens per batch, answers included: generation keeps keys and values of all."""
    return 8192 if device.type == "cpu" else 65536


def _answer(loaded: Loaded, prompts: Sequence[Any], room: int) -> list[str]:
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
    with quiet(), in_turn(), torch.inference_mode():
        written = loaded.model.generate(
            input_ids=torch.from_numpy(ids).to(loaded.device),
            attention_mask=torch.from_numpy(mask).to(loaded.device),
            generation_config=greedy,
        )
    fresh = written[:, longest:].cpu().numpy()
    return [_text(row, loaded.tokenizer, ends) for row in fresh]


def _text(ids: np.ndarray[Any, Any], tokenizer: Any, ends: Sequence[int]) -> str:
    stop = np.flatnonzero(np.isin(ids, ends))
    kept = ids[: stop[0]] if len(stop) else ids
    text = str(
        tokenizer.decode(
            kept.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
    )
    marker = end_marker(tokenizer)
    return text.partition(marker)[0] if marker else text
