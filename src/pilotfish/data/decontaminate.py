"""Which rows stand in the test data too: same prompt, whatever the answer.

A pool row that asks a test question is leakage even where its answer differs, so the key is made
of the prompt alone; of the text where there is no prompt.
"""

import hashlib
from collections.abc import Iterable

from pilotfish.records import Example


def overlap_key(example: Example) -> str:
    """32 hex digits of what is asked, lower-cased, white space squeezed; system turns left out."""
    asked = [turn.content for turn in example.prompt if turn.role != "system"]
    said = _normal("\n".join(asked) if example.turns else example.text or "")
    plain = said or _normal(example.response)  # an empty prompt is no question to share
    return hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def overlap_keys(examples: Iterable[Example]) -> frozenset[str]:
    """The keys of the test data, to be given to `read(..., exclude=...)`."""
    return frozenset(overlap_key(example) for example in examples)


def _normal(text: str) -> str:
    return " ".join(text.lower().split())
