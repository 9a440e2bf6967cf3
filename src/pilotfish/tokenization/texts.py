"""Texts to be classified -> token ids: the whole text, with the tokens a tokenizer frames it by."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pilotfish.records import Example
from pilotfish.tokenization.render import GAP
from pilotfish.tokenization.tokens import Encoded, unusable, usable


def encode_texts(examples: Sequence[Example], tokenizer: Any, max_length: int) -> list[Encoded]:
    """One Encoded per example, cut on the right at `max_length` tokens; no token is a target.

    The text is `text`, or the turns of the prompt joined by a blank line. Where the tokenizer ends
    a text with a mark of its own (BERT's [SEP]), a cut text keeps it. Reasons: empty_text,
    tokenizer_error.
    """
    texts = [_text(example) for example in examples]
    encoded = []
    for text, ids in zip(texts, _ids(texts, tokenizer, None), strict=True):
        if not text.strip():
            encoded.append(unusable("empty_text"))
        elif ids is None:
            encoded.append(unusable("tokenizer_error"))
        else:
            encoded.append(_cut(text, ids, tokenizer, max_length))
    return encoded


def _text(example: Example) -> str:
    if example.text is not None:
        return example.text
    return GAP.join(turn.content for turn in example.prompt)


def _cut(text: str, ids: list[int], tokenizer: Any, max_length: int) -> Encoded:
    over = len(ids) > max_length
    if over:  # asked anew, for only the tokenizer knows which of its marks must stay
        ids = _ids([text], tokenizer, max_length)[0] or ids[:max_length]
    nothing = np.zeros(len(ids), dtype=bool)
    return usable(ids, nothing, n_prompt=len(ids), n_response=0, truncated=over)


def _ids(texts: Sequence[str], tokenizer: Any, limit: int | None) -> list[list[int] | None]:
    if not texts:
        return []
    options: dict[str, Any] = {
        "truncation": limit is not None,
        "max_length": limit,
        "split_special_tokens": True,  # a control token spelled in a text stays plain characters
    }
    try:
        found = tokenizer(list(texts), verbose=False, return_attention_mask=False, **options)
        return list(found["input_ids"])
    except Exception:  # a text that this tokenizer fails on must not take the others with it
        if len(texts) == 1:
            return [None]
        return [_ids([text], tokenizer, limit)[0] for text in texts]
