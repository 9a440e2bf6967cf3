"""Rows -> token ids for training and for generation: every assistant turn, or the open question."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pilotfish.records import Example
from pilotfish.tokenization.render import Renderer, render_rows, turns_of
from pilotfish.tokenization.tokens import (
    Encoded,
    added_ids,
    tokenize,
    tokenize_segments,
    unusable,
    usable,
)


def encode_training(
    examples: Sequence[Example], tokenizer: Any, max_length: int, *, form: str = "template"
) -> list[Encoded]:
    """One Encoded per example: every assistant turn and its end marker are targets.

    Plain text is supervised whole. n_response counts supervised tokens, n_prompt the others.
    Reasons: empty_response (no word in any reply), no_response_tokens (all of them cut off),
    template_error, tokenizer_error.
    """
    renderer = Renderer.of(tokenizer, form)
    rows, broken = render_rows(examples, renderer)
    start, _ = added_ids(tokenizer)
    encoded = []
    tokenized = tokenize_segments(rows, tokenizer)
    for example, row, ids, failed in zip(examples, rows, tokenized, broken, strict=True):
        if failed or ids is None:
            encoded.append(unusable("template_error" if failed else "tokenizer_error"))
            continue
        opening = [] if renderer.frame and turns_of(example) else start
        flat = opening + [token for one in ids for token in one]
        marks = [False] * len(opening)
        for part, one in zip(row, ids, strict=True):
            marks += [part.supervised] * len(one)
        encoded.append(_supervised(flat, marks, max_length, says=_says_something(example)))
    return encoded


def encode_prompts(
    examples: Sequence[Example],
    tokenizer: Any,
    max_length: int,
    room: int,
    *,
    form: str = "template",
) -> list[Encoded]:
    """The question of every example, ending where the model has to answer; no target.

    Its ids are those that stand before the last reply in training. Reasons: prompt_over_limit (not
    `room` tokens left below `max_length`), empty_prompt, template_error, tokenizer_error.
    """
    renderer = Renderer.of(tokenizer, form)
    rows, broken = render_rows(examples, renderer, prompts=True)
    start, _ = added_ids(tokenizer)
    encoded = []
    for row, ids, failed in zip(rows, tokenize_segments(rows, tokenizer), broken, strict=True):
        if failed or ids is None:
            encoded.append(unusable("template_error" if failed else "tokenizer_error"))
            continue
        flat = ([] if renderer.frame else start) + [token for one in ids for token in one]
        if not row or not flat:
            encoded.append(unusable("empty_prompt"))
        elif len(flat) + room > max_length:
            encoded.append(unusable("prompt_over_limit", n_prompt=len(flat)))
        else:
            nothing = np.zeros(len(flat), dtype=bool)
            encoded.append(usable(flat, nothing, n_prompt=len(flat), n_response=0, truncated=False))
    return encoded


def end_ids(tokenizer: Any, form: str = "template") -> list[int]:
    """Ids that end a reply: EOS, and the control token a chat template's end marker begins with."""
    ends = {tokenizer.eos_token_id} - {None}
    frame = Renderer.of(tokenizer, form).frame
    if frame is not None:
        [marker] = tokenize([frame[1].lstrip()], tokenizer)
        if marker and marker[0] in tokenizer.all_special_ids:
            ends.add(marker[0])
    return sorted(ends)


def end_marker(tokenizer: Any, form: str = "template") -> str:
    """The text a chat template ends a reply with, "" where there is none."""
    frame = Renderer.of(tokenizer, form).frame
    return frame[1].strip() if frame is not None else ""


def _says_something(example: Example) -> bool:
    if not example.turns:
        return bool(example.response)
    return any(turn.role == "assistant" and turn.content for turn in example.turns)


def _supervised(ids: list[int], marks: list[bool], max_length: int, *, says: bool) -> Encoded:
    kept = ids[:max_length]
    target = np.array(marks[:max_length], dtype=bool)
    target[:1] = False  # nothing predicts the first token
    facts: dict[str, Any] = {
        "n_prompt": len(kept) - int(target.sum()),
        "n_response": int(target.sum()),
        "truncated": len(ids) > max_length,
    }
    if not says:
        return unusable("empty_response", **facts)
    return (
        usable(kept, target, **facts) if target.any() else unusable("no_response_tokens", **facts)
    )
