"""Tokenize rows for scoring and mark the scored tokens: our aligned rules, and published ones.

Aligned (forms `template` and `plain`): prompt and response are tokenized separately, so no token
spans the boundary. A start token comes first only where the tokenizer (or its chat template) puts
one. Without one the first response token cannot be scored alone, so it is left out with *and*
without the prompt: both means cover the same tokens. That is the price of alignment, and it makes
a one-token response unscorable there.

Superfiltering (arXiv:2402.00530): the joint text is tokenized as one string, the response starts
at the token count of the untruncated prompt, and alone its first token goes unscored without a BOS.
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
    """Encode rows for one measurement.

    A need that is not `aligned` keeps the first response token wherever the prompt predicts it;
    it is compared with no measurement of the response alone.

    Args:
        examples: The rows.
        need: The measurement.
        tokenizer: The tokenizer of the model that scores.
        max_length: Tokens after which a row is cut on the right.

    Returns:
        One Encoded per row. Reasons: empty_response, prompt_over_limit, too_few_tokens,
        no_response_tokens, template_error, tokenizer_error.

    Raises:
        UsageError: An unknown text form, or a chat template that cannot be used.
    """
    return encode_needs(examples, [need], tokenizer, max_length)[need]


def encode_needs(
    examples: Sequence[Example],
    needs: Sequence[Need],
    tokenizer: Any,
    max_length: int,
) -> dict[Need, list[Encoded]]:
    """Encode rows for several measurements; texts are tokenized once per text form.

    Needs of equal form and condition (`text` and `given`) share every row's `passage`. Needs of
    the span `supervised` read rows as training does, every reply with its end marker.

    Args:
        examples: The rows.
        needs: The measurements.
        tokenizer: The tokenizer of the model that scores.
        max_length: Tokens after which a row is cut on the right.

    Returns:
        Per need one Encoded per row, as `encode_scoring` makes them.
    """
    found: dict[Need, list[Encoded]] = {}
    supervised = [need for need in needs if need.span == "supervised"]
    for text in dict.fromkeys(need.text for need in supervised):
        rows = encode_training(examples, tokenizer, max_length, form=text)
        found |= {need: rows for need in supervised if need.text == text}
    spans = [need for need in needs if need.span != "supervised"]
    for text in dict.fromkeys(need.text for need in spans):
        renderer = Renderer.of(tokenizer, text)
        split = _split_published if text == "superfiltering" else _split_aligned
        parts = split(examples, renderer)
        for given in ("prompt", "nothing"):
            alike = [need for need in spans if (need.text, need.given) == (text, given)]
            passes = [_forward_pass(part, given, max_length) for part in parts] if alike else []
            found |= {need: [each.encoded(need) for each in passes] for need in alike}
    return {need: found[need] for need in needs}


@dataclass(frozen=True, slots=True)
class _Pass:
    """A row as one forward pass reads it, or why it cannot be read; and where spans begin."""

    passage: Passage | None  # the tokens; None where the row cannot be read
    n_prompt: int  # prompt tokens after the cut
    n_response: int = 0  # response tokens after the cut
    # whether the response (first) or its end marker (second) lost tokens
    over: tuple[bool, bool] = (False, False)
    reason: str = ""  # why the row cannot be read
    full: int = 1  # first token of the whole text that something predicts
    begin: int = 0  # first token of the response, also where nothing predicts it
    nothing_left: str = "too_few_tokens"  # the reason where no token can be scored

    def encoded(self, need: Need) -> Encoded:
        """Return the row with the tokens that this need scores as targets."""
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


@dataclass(frozen=True, slots=True)
class _AlignedRow:
    """A row's token ids by part."""

    start: Ids  # the first ids of `prompt`, which also come before the response alone
    prompt: Ids
    response: Ids
    end: Ids  # the end marker, which a model writes after the response


@dataclass(frozen=True, slots=True)
class _PublishedRow:
    """A row tokenized as published: the joint text, and prefix and reply on their own."""

    prefix: Ids
    joint: Ids
    reply: Ids
    end: int  # ids the tokenizer appends to every text
    has_response: bool


def _forward_pass(row: _AlignedRow | _PublishedRow | str, given: str, max_length: int) -> _Pass:
    if isinstance(row, str):
        return _Pass(None, 0, reason=row)
    if isinstance(row, _AlignedRow):
        return _aligned_pass(row, given, max_length)
    return _published_pass(row, given, max_length)


def _split_aligned(examples: Sequence[Example], renderer: Renderer) -> list[_AlignedRow | str]:
    """Tokenize rows by part; a row that fails is its reason."""
    rows, refused = render_rows(examples, renderer)
    added, _ = added_ids(renderer.tokenizer)
    parts: list[_AlignedRow | str] = []
    tokenized = tokenize_segments(rows, renderer.tokenizer)
    for row, ids, failed in zip(rows, tokenized, refused, strict=True):
        if failed or ids is None:
            parts.append("template_error" if failed else "tokenizer_error")
            continue
        prompt, response, end = _parts(row, ids)
        start, before = added, added + prompt
        if renderer.frame and prompt:
            # A chat template writes its own start token; any other text gets the tokenizer's.
            start = prompt[:1] if prompt[:1] == [renderer.tokenizer.bos_token_id] else []
            before = prompt
        parts.append(_AlignedRow(start, before, response, end))
    return parts


def _parts(row: Sequence[Segment], ids: Sequence[Ids]) -> tuple[Ids, Ids, Ids]:
    """Return the ids of prompt, response and end marker."""
    scored = [i for i, part in enumerate(row) if part.scored]
    first, last = (scored[0], scored[-1]) if scored else (len(row), len(row))
    after = list(zip(row, ids, strict=True))[last + 1 :]
    return (
        [token for one in ids[:first] for token in one],
        [token for i in scored for token in ids[i]],
        [token for part, one in after if part.supervised for token in one],
    )


def _aligned_pass(row: _AlignedRow, given: str, max_length: int) -> _Pass:
    n_prompt = min(len(row.prompt), max_length)
    kept = (row.response + row.end)[: max_length - n_prompt]
    n_response = min(len(row.response), len(kept))
    whole = len(row.prompt) + len(row.response)
    facts: dict[str, Any] = {
        "n_prompt": n_prompt,
        "n_response": n_response,
        "over": (whole > max_length, whole + len(row.end) > max_length),
    }
    if not row.response:
        return _Pass(None, **facts, reason="empty_response")
    if not kept:
        return _Pass(None, **facts, reason="prompt_over_limit")
    before = row.prompt if given == "prompt" else row.start
    begin = len(before)
    aligned = max(begin + (0 if row.start else 1), 1)
    marks = (max(begin, 1), aligned, begin + n_response)
    passage = Passage(np.asarray(before + kept, dtype=np.int32), marks, begin)
    full = max(len(row.start), 1) if given == "prompt" else aligned
    return _Pass(passage, **facts, full=full, begin=begin)


def _split_published(examples: Sequence[Example], renderer: Renderer) -> list[_PublishedRow | str]:
    """Tokenize rows as published; a row that fails is its reason."""
    tokenizer = renderer.tokenizer
    texts = [tuple(part.text for part in renderer.segments(example)) for example in examples]
    columns = (
        tokenize([prefix for prefix, _ in texts], tokenizer, specials=True),
        tokenize(["".join(pair) for pair in texts], tokenizer, specials=True),
        tokenize([response for _, response in texts], tokenizer, specials=True),
    )
    end = len(added_ids(tokenizer)[1])
    rows: list[_PublishedRow | str] = []
    for (_, response), prefix, joint, reply in zip(texts, *columns, strict=True):
        if prefix is None or joint is None or reply is None:
            rows.append("tokenizer_error")
        else:
            rows.append(_PublishedRow(prefix, joint, reply, end, bool(response)))
    return rows


def _published_pass(row: _PublishedRow, given: str, max_length: int) -> _Pass:
    start = len(row.prefix)  # of the untruncated prompt, as published
    if not row.has_response:
        return _Pass(None, min(start, max_length), reason="empty_response")
    kept = _truncate(row.joint, max_length, row.end)
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
        kept = _truncate(row.reply, min(max_length - start + 1, max_length), row.end)
        facts["nothing_left"] = "too_few_tokens"
        start, begin = 1, 0
    first = max(start, 1)
    passage = Passage(np.asarray(kept, dtype=np.int32), (first, first, len(kept)), begin)
    return _Pass(passage, **facts, begin=begin)


def _truncate(ids: Ids, limit: int, end: int) -> Ids:
    """Cut on the right as tokenizers do: the `end` ids that they append themselves are kept."""
    if len(ids) <= limit:
        return ids
    return ids[: max(limit - end, 0)] + (ids[-end:] if end else [])
