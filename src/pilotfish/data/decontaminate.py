"""Find rows that are also in the test data: the same prompt, whatever the answer.

A pool row that asks a test question is leakage even where its answer differs, so the key is made
of the prompt alone; of the text where there is no prompt.
"""

import hashlib
from collections.abc import Iterable

from pilotfish.records import Example


def overlap_key(example: Example) -> str:
    """Return 32 hex digits of a row's prompt, lower case, white space squeezed, no system turns."""
    prompt = "\n".join(turn.content for turn in example.prompt if turn.role != "system")
    text = _normalize(prompt if example.turns else example.text or "")
    text = text or _normalize(example.response)  # an empty prompt is no question to share
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def overlap_keys(examples: Iterable[Example]) -> frozenset[str]:
    """Return the keys of the test data, for `read(..., exclude=...)`."""
    return frozenset(overlap_key(example) for example in examples)


def _normalize(text: str) -> str:
    return " ".join(text.lower().split())
