"""Tokenize rows for training (every assistant turn) and for generation (the open question)."""

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
    """Encode rows with every assistant turn and its end marker as targets.

    Plain text is supervised whole.

    Args:
        examples: The rows.
        tokenizer: The tokenizer of the model to train.
        max_length: Tokens after which a row is cut.
        form: The text form, see `render`.

    Returns:
        One Encoded per row; n_response counts supervised tokens, n_prompt the others. Reasons:
        empty_response (no word in any reply), no_response_tokens (all of them cut off),
        template_error, tokenizer_error.
    """
    renderer = Renderer.of(tokenizer, form)
    rows, refused = render_rows(examples, renderer)
    start, _ = added_ids(tokenizer)
    encoded = []
    tokenized = tokenize_segments(rows, tokenizer)
    for example, row, ids, failed in zip(examples, rows, tokenized, refused, strict=True):
        if failed or ids is None:
            encoded.append(unusable("template_error" if failed else "tokenizer_error"))
            continue
        opening = [] if renderer.frame and turns_of(example) else start
        flat = opening + [token for one in ids for token in one]
        supervised = [False] * len(opening)
        for part, one in zip(row, ids, strict=True):
            supervised += [part.supervised] * len(one)
        target = np.array(supervised[:max_length], dtype=bool)
        target[:1] = False  # nothing predicts the first token
        n_response = int(target.sum())
        facts: dict[str, Any] = {
            "n_prompt": len(target) - n_response,
            "n_response": n_response,
            "truncated": len(flat) > max_length,
        }
        if not _has_reply(example):
            encoded.append(unusable("empty_response", **facts))
        elif not n_response:
            encoded.append(unusable("no_response_tokens", **facts))
        else:
            encoded.append(usable(flat[:max_length], target, **facts))
    return encoded


def _has_reply(example: Example) -> bool:
    if not example.turns:
        return bool(example.response)
    return any(turn.role == "assistant" and turn.content for turn in example.turns)


def encode_prompts(
    examples: Sequence[Example],
    tokenizer: Any,
    max_length: int,
    room: int,
    *,
    form: str = "template",
) -> list[Encoded]:
    """Encode the prompt of every row, ending where the model has to answer; no token is a target.

    The ids are those before the last reply in training.

    Args:
        examples: The rows.
        tokenizer: The tokenizer of the model that answers.
        max_length: Tokens of prompt and answer together.
        room: Tokens kept free for the answer.
        form: The text form, see `render`.

    Returns:
        One Encoded per row. Reasons: prompt_over_limit, empty_prompt, template_error,
        tokenizer_error.
    """
    renderer = Renderer.of(tokenizer, form)
    rows, refused = render_rows(examples, renderer, prompts=True)
    start, _ = added_ids(tokenizer)
    encoded = []
    for row, ids, failed in zip(rows, tokenize_segments(rows, tokenizer), refused, strict=True):
        if failed or ids is None:
            encoded.append(unusable("template_error" if failed else "tokenizer_error"))
            continue
        flat = ([] if renderer.frame else start) + [token for one in ids for token in one]
        if not row or not flat:
            encoded.append(unusable("empty_prompt"))
        elif len(flat) + room > max_length:
            encoded.append(unusable("prompt_over_limit", n_prompt=len(flat)))
        else:
            target = np.zeros(len(flat), dtype=bool)
            encoded.append(usable(flat, target, n_prompt=len(flat), n_response=0, truncated=False))
    return encoded


def end_ids(tokenizer: Any, form: str = "template") -> list[int]:
    """Return the ids that end a reply: EOS, and the first control token of the end marker."""
    ends = {tokenizer.eos_token_id} - {None}
    frame = Renderer.of(tokenizer, form).frame
    if frame is not None:
        [marker] = tokenize([frame[1].lstrip()], tokenizer)
        if marker and marker[0] in tokenizer.all_special_ids:
            ends.add(marker[0])
    return sorted(ends)


def end_marker(tokenizer: Any, form: str = "template") -> str:
    """Return the text a chat template writes after a reply, "" where there is none."""
    frame = Renderer.of(tokenizer, form).frame
    return frame[1].strip() if frame is not None else ""
