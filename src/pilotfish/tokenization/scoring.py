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
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.records import Example, Need
from pilotfish.tokenization.render import Renderer, Segment, render_rows
from pilotfish.tokenization.tokens import (
    Encoded,
    Ids,
    Passage,
    added_ids,
    tokenize,
    tokenize_segments,
    unusable,
)
from pilotfish.tokenization.training import encode_training


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
    return encode_needs(examples, [need], tokenizer, max_length)[need]


def encode_needs(
    examples: Sequence[Example],
    needs: Sequence[Need],
    tokenizer: Any,
    max_length: int,
) -> dict[Need, list[Encoded]]:
    """`encode_scoring` for several needs; texts are cut into tokens once per text form.

    Needs of equal form and condition (`text` and `given`) share every row's `passage`. Those of the
    span `supervised` read rows as training does, every reply with its end mark: `encode_training`.
    """
    found: dict[Need, list[Encoded]] = {}
    learnt = [need for need in needs if need.span == "supervised"]
    for text in dict.fromkeys(need.text for need in learnt):
        trained = encode_training(examples, tokenizer, max_length, form=text)
        found |= {need: trained for need in learnt if need.text == text}
    for text in dict.fromkeys(need.text for need in needs if need not in learnt):
        renderer = Renderer.of(tokenizer, text)
        cut = _cut_published if text == "superfiltering" else _cut_template
        rows = cut(examples, renderer)
        for given in ("prompt", "nothing"):
            alike = [need for need in needs if (need.text, need.given) == (text, given)]
            asked = [need for need in alike if need not in learnt]
            passes = [_pass(row, given, max_length) for row in rows] if asked else []
            found |= {need: [each.encoded(need) for each in passes] for need in asked}
    return {need: found[need] for need in needs}


@dataclass(frozen=True, slots=True)
class _Pass:
    """A row as one forward pass reads it, or why it cannot be read; and where spans begin.

    n_prompt and n_response count after the cut; `over` says whether the response (first) or its
    end marker (second) lost tokens; `nothing_left` is the reason where no token can be scored.
    """

    passage: Passage | None
    n_prompt: int
    n_response: int = 0
    over: tuple[bool, bool] = (False, False)
    reason: str = ""
    full: int = 1  # first token of the whole span that something predicts
    begin: int = 0  # first token of the response, also where nothing predicts it
    nothing_left: str = "too_few_tokens"

    def encoded(self, need: Need) -> Encoded:
        facts: dict[str, Any] = {
            "n_prompt": self.n_prompt,
            "n_response": self.n_response,
            "truncated": self.over[need.end],
        }
        if self.passage is None:
            return unusable(self.reason, **facts)
        start, aligned, stop = self.passage.marks
        ids = self.passage.ids if need.end else self.passage.ids[:stop]
        if need.pools:
            first = 0 if need.span == "full" else self.begin
        elif need.span == "full":
            first = self.full
        else:
            first = aligned if need.aligned else start
        if first >= len(ids):
            return unusable(self.nothing_left, **facts, passage=self.passage)
        target = np.arange(len(ids)) >= first
        return Encoded(ids, target, **facts, passage=self.passage)


def _pass(row: "_Joint | _Published | str", given: str, max_length: int) -> _Pass:
    if isinstance(row, str):
        return _Pass(None, 0, reason=row)
    if isinstance(row, _Joint):
        return _templated(row, given, max_length)
    return _published(row, given, max_length)


def _cut_template(examples: Sequence[Example], renderer: Renderer) -> list["_Joint | str"]:
    rows, broken = render_rows(examples, renderer)
    tokenizer = renderer.tokenizer
    start, _ = added_ids(tokenizer)
    cut: list[_Joint | str] = []
    for row, ids, failed in zip(rows, tokenize_segments(rows, tokenizer), broken, strict=True):
        if failed or ids is None:
            cut.append("template_error" if failed else "tokenizer_error")
        else:
            has_template = bool(renderer.frame)
            cut.append(_joint(row, ids, start, has_template=has_template, tokenizer=tokenizer))
    return cut


@dataclass(frozen=True, slots=True)
class _Joint:
    """A row cut into tokens: start is what `prompt` begins with, also put before it alone."""

    start: Ids
    prompt: Ids
    response: Ids
    end: Ids  # what a model must say after the response to be done: no part of it


def _joint(
    row: Sequence[Segment], ids: Sequence[Ids], added: Ids, *, has_template: bool, tokenizer: Any
) -> _Joint:
    first = next((i for i, part in enumerate(row) if part.scored), len(row))
    prompt = [token for one in ids[:first] for token in one]
    response = [token for part, one in zip(row, ids, strict=True) if part.scored for token in one]
    end = _end(row, ids)
    # A chat template writes its own start token; any other text gets the tokenizer's.
    if not has_template or not prompt:
        return _Joint(added, added + prompt, response, end)
    begins = prompt[:1] == [tokenizer.bos_token_id]
    return _Joint(prompt[:1] if begins else [], prompt, response, end)


def _end(row: Sequence[Segment], ids: Sequence[Ids]) -> Ids:
    last = max((i for i, part in enumerate(row) if part.scored), default=len(row))
    pairs = list(zip(row, ids, strict=True))[last + 1 :]
    return [token for part, one in pairs if part.supervised for token in one]


def _templated(joint: _Joint, given: str, max_length: int) -> _Pass:
    n_prompt = min(len(joint.prompt), max_length)
    room = max_length - n_prompt
    survives = (joint.response + joint.end)[:room]
    n_response = min(len(joint.response), len(survives))
    whole = len(joint.prompt) + len(joint.response)
    facts: dict[str, Any] = {
        "n_prompt": n_prompt,
        "n_response": n_response,
        "over": (whole > max_length, whole + len(joint.end) > max_length),
    }
    if not joint.response:
        return _Pass(None, **facts, reason="empty_response")
    if not survives:
        return _Pass(None, **facts, reason="prompt_over_limit")
    before = joint.prompt if given == "prompt" else joint.start
    begin = len(before)
    aligned = max(begin + (0 if joint.start else 1), 1)
    marks = (max(begin, 1), aligned, begin + n_response)
    passage = Passage(np.asarray(before + survives, dtype=np.int32), marks, begin)
    full = max(len(joint.start), 1) if given == "prompt" else aligned
    return _Pass(passage, **facts, full=full, begin=begin)


@dataclass(frozen=True, slots=True)
class _Published:
    """A row cut as published: the prefix and the reply also on their own."""

    prefix: Ids
    joint: Ids
    reply: Ids
    end: int  # ids the tokenizer appends to every text
    has_response: bool


def _cut_published(examples: Sequence[Example], renderer: Renderer) -> list["_Published | str"]:
    tokenizer = renderer.tokenizer
    texts = [tuple(part.text for part in renderer.segments(example)) for example in examples]
    columns = (
        tokenize([prefix for prefix, _ in texts], tokenizer, specials=True),
        tokenize(["".join(pair) for pair in texts], tokenizer, specials=True),
        tokenize([response for _, response in texts], tokenizer, specials=True),
    )
    end = len(added_ids(tokenizer)[1])
    rows: list[_Published | str] = []
    for (_, response), *cut in zip(texts, *columns, strict=True):
        prefix, joint, reply = cut
        if prefix is None or joint is None or reply is None:
            rows.append("tokenizer_error")
        else:
            rows.append(_Published(prefix, joint, reply, end, bool(response)))
    return rows


def _published(row: _Published, given: str, max_length: int) -> _Pass:
    start = len(row.prefix)  # of the untruncated prompt, as published
    if not row.has_response:
        return _Pass(None, min(start, max_length), reason="empty_response")
    kept = _cut(row.joint, max_length, row.end)
    over = len(row.joint) > max_length
    facts: dict[str, Any] = {
        "n_prompt": min(start, len(kept)),
        "n_response": max(len(kept) - start, 0),
        "over": (over, over),
    }
    if start >= max_length:
        return _Pass(None, **facts, reason="prompt_over_limit")
    facts["nothing_left"] = "no_response_tokens"
    begin = start
    if given == "nothing":
        # plain text has no prompt: never more than the limit
        kept = _cut(row.reply, min(max_length - start + 1, max_length), row.end)
        facts["nothing_left"] = "too_few_tokens"
        start, begin = 1, 0
    first = max(start, 1)
    passage = Passage(np.asarray(kept, dtype=np.int32), (first, first, len(kept)), begin)
    return _Pass(passage, **facts, begin=begin)


def _cut(ids: Ids, limit: int, end: int) -> Ids:
    """Cut on the right as tokenizers do: what they append themselves (`end` ids) survives."""
    if len(ids) <= limit:
        return ids
    return ids[: max(limit - end, 0)] + (ids[-end:] if end else [])
