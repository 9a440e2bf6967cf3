"""Tokenize rows for training (every assistant turn), for generation, and for classification."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pilotfish.records import Example
from pilotfish.tokenization.render import GAP, Renderer, render_rows, turns_of
from pilotfish.tokenization.tokens import (
    Encoded,
    Ids,
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
    encoded = []
    rows = _tokenize_rows(examples, Renderer.of(tokenizer, form))
    for example, row in zip(examples, rows, strict=True):
        if isinstance(row, str):
            encoded.append(unusable(row))
            continue
        ids, supervised = row
        target = np.array(supervised[:max_length], dtype=bool)
        target[:1] = False  # nothing predicts the first token
        n_response = int(target.sum())
        facts: dict[str, Any] = {
            "n_prompt": len(target) - n_response,
            "n_response": n_response,
            "truncated": len(ids) > max_length,
        }
        replies = [turn.content for turn in example.turns if turn.role == "assistant"]
        if not (any(replies) if example.turns else example.response):
            encoded.append(unusable("empty_response", **facts))
        elif not n_response:
            encoded.append(unusable("no_response_tokens", **facts))
        else:
            encoded.append(usable(ids[:max_length], target, **facts))
    return encoded


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
    encoded = []
    for row in _tokenize_rows(examples, Renderer.of(tokenizer, form), prompts=True):
        if isinstance(row, str):
            encoded.append(unusable(row))
        elif not row[0]:
            encoded.append(unusable("empty_prompt"))
        elif len(row[0]) + room > max_length:
            encoded.append(unusable("prompt_over_limit", n_prompt=len(row[0])))
        else:
            encoded.append(_without_targets(row[0], truncated=False))
    return encoded


def encode_texts(examples: Sequence[Example], tokenizer: Any, max_length: int) -> list[Encoded]:
    """Encode texts for a classifier: `text`, or the prompt's turns joined by a blank line.

    The text is framed by the tokenizer's own marks, and no token is a target.

    Args:
        examples: The rows.
        tokenizer: The classifier's tokenizer.
        max_length: Longer texts are cut on the right. Where the tokenizer ends a text with a mark
            of its own (BERT's [SEP]), a cut text keeps it.

    Returns:
        One Encoded per row. Reasons: empty_text, tokenizer_error.
    """
    texts = [
        GAP.join(turn.content for turn in row.prompt) if row.text is None else row.text
        for row in examples
    ]
    encoded = []
    tokenized = tokenize(texts, tokenizer, specials=True, literal=True)
    for text, ids in zip(texts, tokenized, strict=True):
        if not text.strip():
            encoded.append(unusable("empty_text"))
        elif ids is None:
            encoded.append(unusable("tokenizer_error"))
        else:
            over = len(ids) > max_length
            if over:  # tokenized again: only the tokenizer knows which of its marks must stay
                [cut] = tokenize([text], tokenizer, specials=True, literal=True, limit=max_length)
                ids = cut or ids[:max_length]
            encoded.append(_without_targets(ids, truncated=over))
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


def _tokenize_rows(
    examples: Sequence[Example], renderer: Renderer, *, prompts: bool = False
) -> Iterator[tuple[Ids, list[bool]] | str]:
    """Yield per row the ids and which of them are supervised, or the reason why there are none."""
    rows, refused = render_rows(examples, renderer, prompts=prompts)
    tokenized = tokenize_segments(rows, renderer.tokenizer)
    start, _ = added_ids(renderer.tokenizer)
    for example, row, segments, failed in zip(examples, rows, tokenized, refused, strict=True):
        if failed or segments is None:
            yield "template_error" if failed else "tokenizer_error"
            continue
        # A chat template writes its own start token; plain text has no prompt to begin.
        opening = [] if not row or (renderer.frame and turns_of(example)) else start
        ids, supervised = list(opening), [False] * len(opening)
        for part, one in zip(row, segments, strict=True):
            ids += one
            supervised += [part.supervised] * len(one)
        yield ids, supervised


def _without_targets(ids: Ids, *, truncated: bool) -> Encoded:
    target = np.zeros(len(ids), dtype=bool)
    return usable(ids, target, n_prompt=len(ids), n_response=0, truncated=truncated)
