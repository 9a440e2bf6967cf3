"""A tiny task to learn: say a word backwards."""

import random

from pilotfish.records import Example, Turn


def pair(prompt: str, answer: str, *, row: int = 0) -> Example:
    """One instruction with its answer."""
    turns = (Turn("user", prompt), Turn("assistant", answer))
    return Example(id=f"r{row}", source="words.jsonl", row=row, turns=turns)


def backwards(n: int, *, seed: int = 0) -> list[Example]:
    """n words of 2 to 6 letters, each with its reverse."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcd", k=draw.randint(2, 6))) for _ in range(n)]
    return [pair(f"back {word}", word[::-1], row=row) for row, word in enumerate(words)]
