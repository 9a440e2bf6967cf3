"""Rows -> token ids with the scored tokens marked: aligned rules, and the published ones.

Aligned (forms `template` and `plain`): prompt and response are cut into tokens separately, so no
token spans the boundary. A start token stands in front only where the tokenizer (or its chat
template) puts one. Without one the first response token cannot be scored alone, so it is left out
with *and* without the prompt: both means cover the same tokens. That is the price of alignment,
and it makes a one-token response unscorable there.

Superfiltering (arXiv:2402.00530): the joint text is cut as one string, the response starts at the
token count of the untruncated prompt, and alone its first token goes unscored without a BOS.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pilotfish.encode.render import Renderer, Segment
from pilotfish.encode.tokens import (
    Encoded,
    Ids,
    added_ids,
    tokenize,
    tokenize_segments,
    unusable,
    usable,
)
from pilotfish.errors import UsageError
from pilotfish.records import Example, Need


def encode_scoring(
    examples: Sequence[Example],
    need: Need,
    tokenizer: Any,
    max_length: int,
) -> list[Encoded]:
    """One Encoded per example, in order, cut on the right at `max_length` tokens.

    A need that is not `aligned` keeps the first response token wherever the prompt predicts it;
    it is compared with no measurement of the response alone. Reasons: empty_response,
    prompt_over_limit, too_few_tokens, no_response_tokens, template_error, tokenizer_error.
    Raises UsageError for an unknown text form or an unusable chat template.
    """
    renderer = Renderer.of(tokenizer, need.text)
    if need.text == "superfiltering":
        return _published(examples, need, renderer, max_length)
    rows, broken = render_rows(examples, renderer)
    start, _ = added_ids(tokenizer)
    tokenized = tokenize_segments(rows, tokenizer)
    encoded = []
    for row, ids, failed in zip(rows, tokenized, broken, strict=True):
        if failed or ids is None:
            encoded.append(unusable("template_error" if failed else "tokenizer_error"))
            continue
        joint = _joint(row, ids, start, has_template=bool(renderer.frame), tokenizer=tokenizer)
        if need.end:
            joint = replace(joint, end=_end(row, ids))
        encoded.append(_templated(joint, need, max_length))
    return encoded


def render_rows(
    examples: Sequence[Example], renderer: Renderer, *, prompts: bool = False
) -> tuple[list[tuple[Segment, ...]], list[bool]]:
    """Segments of every row, and which rows the template refuses (their segments are empty)."""
    write = renderer.prompt if prompts else renderer.segments
    rows: list[tuple[Segment, ...]] = []
    broken = []
    for example in examples:
        try:
            rows.append(write(example))
            broken.append(False)
        except UsageError:
            rows.append(())
            broken.append(True)
    return rows, broken


@dataclass(frozen=True, slots=True)
class _Joint:
    """A row cut into tokens: start is what `prompt` begins with, also put before it alone."""

    start: Ids
    prompt: Ids
    response: Ids
    end: Ids = field(default_factory=list)


def _end(row: Sequence[Segment], ids: Sequence[Ids]) -> Ids:
    """What a model must say after the response to be done: supervised, but no part of it."""
    last = max((i for i, part in enumerate(row) if part.scored), default=len(row))
    pairs = list(zip(row, ids, strict=True))[last + 1 :]
    return [token for part, one in pairs if part.supervised for token in one]


def _joint(
    row: Sequence[Segment], ids: Sequence[Ids], added: Ids, *, has_template: bool, tokenizer: Any
) -> _Joint:
    first = next((i for i, part in enumerate(row) if part.scored), len(row))
    prompt = [token for one in ids[:first] for token in one]
    response = [token for part, one in zip(row, ids, strict=True) if part.scored for token in one]
    # A chat template writes its own start token; any other text gets the tokenizer's.
    if not has_template or not prompt:
        return _Joint(added, added + prompt, response)
    begins = prompt[:1] == [tokenizer.bos_token_id]
    return _Joint(prompt[:1] if begins else [], prompt, response)


def _templated(joint: _Joint, need: Need, max_length: int) -> Encoded:
    n_prompt = min(len(joint.prompt), max_length)
    survives = (joint.response + joint.end)[: max_length - n_prompt]
    facts: dict[str, Any] = {
        "n_prompt": n_prompt,
        "n_response": min(len(joint.response), len(survives)),
        "truncated": len(joint.prompt + joint.response + joint.end) > max_length,
    }
    if not joint.response:
        return unusable("empty_response", **facts)
    if not survives:
        return unusable("prompt_over_limit", **facts)
    before = joint.prompt if need.given == "prompt" else joint.start
    ids = before + survives
    if need.given == "prompt" and need.span == "full":
        first = len(joint.start)
    else:
        first = len(before) + (1 if need.aligned and not joint.start else 0)
    target = np.arange(len(ids)) >= max(first, 1)
    return usable(ids, target, **facts) if target.any() else unusable("too_few_tokens", **facts)


def _published(
    examples: Sequence[Example], need: Need, renderer: Renderer, max_length: int
) -> list[Encoded]:
    tokenizer = renderer.tokenizer
    texts = [tuple(part.text for part in renderer.segments(example)) for example in examples]
    prefixes = tokenize([prefix for prefix, _ in texts], tokenizer, specials=True)
    joints = tokenize(["".join(pair) for pair in texts], tokenizer, specials=True)
    alone = tokenize([response for _, response in texts], tokenizer, specials=True)
    end = len(added_ids(tokenizer)[1])
    encoded = []
    for (_, response), *cut in zip(texts, prefixes, joints, alone, strict=True):
        if any(ids is None for ids in cut):
            encoded.append(unusable("tokenizer_error"))
            continue
        prefix, joint, reply = (ids or [] for ids in cut)
        if response:
            row = _published_row(prefix, joint, reply, need=need, limit=(max_length, end))
        else:
            row = unusable("empty_response", n_prompt=min(len(prefix), max_length))
        encoded.append(row)
    return encoded


def _published_row(
    prefix: Ids, joint: Ids, reply: Ids, *, need: Need, limit: tuple[int, int]
) -> Encoded:
    max_length, end = limit
    kept = _cut(joint, max_length, end)
    start = len(prefix)  # of the untruncated prompt, as published
    facts: dict[str, Any] = {
        "n_prompt": min(start, len(kept)),
        "n_response": max(len(kept) - start, 0),
        "truncated": len(joint) > max_length,
    }
    if start >= max_length:
        return unusable("prompt_over_limit", **facts)
    if need.given == "nothing":
        # plain text has no prompt: never more than the limit
        kept = _cut(reply, min(max_length - start + 1, max_length), end)
        start = 1
    elif need.span == "full":
        start = 1
    target = np.arange(len(kept)) >= max(start, 1)
    if target.any():
        return usable(kept, target, **facts)
    reason = "too_few_tokens" if need.given == "nothing" else "no_response_tokens"
    return unusable(reason, **facts)


def _cut(ids: Ids, limit: int, end: int) -> Ids:
    """Cut on the right as tokenizers do: what they append themselves (`end` ids) survives."""
    if len(ids) <= limit:
        return ids
    return ids[: max(limit - end, 0)] + (ids[-end:] if end else [])
