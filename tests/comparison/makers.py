"""Results with known numbers, for judging without a model."""

import numpy as np

from pilotfish.records import Example, Turn


def ids(n):
    return [f"item-{i:03d}" for i in range(n)]


def arm(*rows):
    """{seed: {id: value}} from one list of values per seed."""
    return {s: dict(zip(ids(len(row)), map(float, row), strict=True)) for s, row in enumerate(rows)}


def drawn(share, *, seeds=3, items=400, seed=0):
    """An arm of 0/1 items right with probability `share`."""
    rng = np.random.default_rng(seed)
    return arm(*(rng.random((seeds, items)) < share))


def asked(prompt, answer, key=None):
    return Example(
        id=key or prompt,
        source="test.jsonl",
        row=0,
        turns=(Turn("user", prompt), Turn("assistant", answer)),
    )


def labelled(text, label):
    return Example(id=text, source="test.jsonl", row=0, text=text, label=label)
