"""Tokenize texts for a classifier: the whole text, framed by the tokenizer's own marks."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pilotfish.records import Example
from pilotfish.tokenization.render import GAP
from pilotfish.tokenization.tokens import Encoded, unusable, usable


def encode_texts(examples: Sequence[Example], tokenizer: Any, max_length: int) -> list[Encoded]:
    """Encode `text`, or the turns of the prompt joined by a blank line; no token is a target.

    Args:
        examples: The rows.
        tokenizer: The classifier's tokenizer.
        max_length: Longer texts are cut on the right. Where the tokenizer ends a text with a mark
            of its own (BERT's [SEP]), a cut text keeps it.

    Returns:
        One Encoded per row. Reasons: empty_text, tokenizer_error.
    """
    texts = [
        example.text
        if example.text is not None
        else GAP.join(turn.content for turn in example.prompt)
        for example in examples
    ]
    encoded = []
    for text, ids in zip(texts, _tokenize(texts, tokenizer, None), strict=True):
        if not text.strip():
            encoded.append(unusable("empty_text"))
        elif ids is None:
            encoded.append(unusable("tokenizer_error"))
        else:
            over = len(ids) > max_length
            if over:  # tokenized again: only the tokenizer knows which of its marks must stay
                ids = _tokenize([text], tokenizer, max_length)[0] or ids[:max_length]
            target = np.zeros(len(ids), dtype=bool)
            encoded.append(usable(ids, target, n_prompt=len(ids), n_response=0, truncated=over))
    return encoded


def _tokenize(texts: Sequence[str], tokenizer: Any, limit: int | None) -> list[list[int] | None]:
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
        return [_tokenize([text], tokenizer, limit)[0] for text in texts]
