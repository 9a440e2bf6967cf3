"""Small tables of weak labels with known truth for the filters."""

import numpy as np

from pilotfish.labeling.filters import Candidates
from pilotfish.labeling.table import Labels


def words(values):
    return np.array([str(each) for each in values], dtype=object)


def labels(label, **columns):
    """Make a table of labels; columns that are not given are plain."""
    n = len(label)
    given = {
        "ids": words(f"row-{i}" for i in range(n)),
        "status": words(["ok"] * n),
        "reason": words([""] * n),
        "confidence": np.full(n, 0.5),
        "round": np.zeros(n, dtype=np.int64),
        "fold": np.full(n, -1, dtype=np.int64),
        "by": words(["weak"] * n),
    }
    return Labels(label=words(label), **(given | columns))


def drawn(seed, n=120, gold=90, d=8):
    """Candidates of three classes: wrong labels have a direction in the states; some rows failed.

    Returns the candidates and [n] whether each weak label is right.
    """
    rng = np.random.default_rng(seed)
    pool, states, right = _table(rng, n, d, "row")
    status, reason = pool.status.copy(), pool.reason.copy()
    status[:6], reason[:6] = ["abstained", "failed", "filtered"] * 2, ["why"] * 6
    columns = pool.to_columns() | {"status": status, "reason": reason}
    pool = Labels.from_columns(columns, classes=pool.classes)
    pool.confidence[7], pool.consistency[8], states[9] = np.nan, np.nan, np.nan
    gold_labels, gold_states, gold_right = _table(rng, gold, d, "gold")
    return Candidates(pool, states, gold_labels, gold_states, gold_right), right


def _table(rng, n, d, tag):
    truth = rng.integers(0, 3, n)
    fooled = rng.random(n) < 0.35
    answer = np.where(fooled, (truth + 1) % 3, truth)
    states = rng.normal(size=(n, d))
    states[:, 0] += 3.0 * truth
    states[:, 1] += 1.5 * fooled
    probs = np.full((n, 3), 0.1) + 0.2 * rng.random((n, 3))
    probs[np.arange(n), answer] += 1.0
    probs /= probs.sum(axis=1, keepdims=True)
    table = labels(
        answer,
        ids=words(f"{tag}-{i}" for i in range(n)),
        confidence=probs.max(axis=1),
        probs=probs,
        classes=("0", "1", "2"),
        consistency=rng.integers(0, 9, n) / 8,
    )
    return table, states, answer == truth
