"""The split of a prompt (pre-training, pool, trusted or test), by a keyed hash of its argument.

Case, punctuation, spacing, the order of the words and the task's name do not matter. So a word or a
pair of numbers of one split occurs in no other split, in whatever task.
"""

import hashlib
import re
from collections.abc import Iterator
from random import Random
from typing import Literal

from pilotfish.demo.tasks import TASKS, Item, draw_item

Split = Literal["pretrain", "pool", "trusted", "test"]

# Fixed for ever: the shipped base weights saw the pre-training split of this key.
_KEY = b"pilotfish tiny world 1"
_BOUNDS: tuple[tuple[int, Split], ...] = (
    (60, "pretrain"),
    (80, "pool"),
    (85, "trusted"),
    (100, "test"),
)


def split_key(prompt: str) -> str:
    """Return the argument's words in lower case, sorted, without single letters.

    >>> split_key("Count : b  Abba.")
    'abba'
    """
    argument = prompt.partition(":")[2]
    return " ".join(sorted(re.findall(r"[a-z0-9]{2,}", argument.casefold())))


def split_of(prompt: str) -> Split:
    """Return the one split that a prompt and all its near forms belong to."""
    digest = hashlib.blake2b(split_key(prompt).encode(), key=_KEY, digest_size=8).digest()
    share = int.from_bytes(digest, "big") % 100
    return next(split for bound, split in _BOUNDS if share < bound)


def items(split: Split, rng: Random) -> Iterator[Item]:
    """Yield questions of one split endlessly, tasks drawn evenly; they may repeat."""
    tasks = list(TASKS.values())
    while True:
        item = draw_item(rng, rng.choice(tasks))
        if split_of(item.prompt) == split:
            yield item


def distinct_items(split: Split, rng: Random) -> Iterator[Item]:
    """Yield questions of one split, never two with the same argument in the same task."""
    seen: set[tuple[str, str]] = set()
    for item in items(split, rng):
        key = (item.task.name, split_key(item.prompt))
        if key not in seen:
            seen.add(key)
            yield item
