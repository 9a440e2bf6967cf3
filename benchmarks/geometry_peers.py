"""What the algorithms of pilotfish.diversity are timed against: libraries, and plain code."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.machine import installed
from pilotfish.diversity import facility_location, k_centre, k_means, near_duplicates
from pilotfish.selection.minhash import near_duplicate_texts

STEPS = 10
PERMUTATIONS = 126  # 21 bands of 6, as ours chooses at 0.8


@dataclass
class Timed:
    """A contender that keeps its answer (objective or rows kept), so that speed is not all."""

    work: Callable[[], float]
    answer: float = float("nan")

    def prepare(self) -> None:
        """Nothing is kept between runs."""

    def run(self) -> None:
        """Find the answer anew."""
        self.answer = float(self.work())


def peers(rows: np.ndarray, texts: list[str], seed: int) -> dict[str, dict[str, Timed]]:
    """Task -> contenders, `ours` among them; libraries that are absent are left out."""
    n = len(rows)
    tie, k = np.arange(n), min(500, n // 20)
    contests = {
        "k_centre": {
            "ours": lambda: k_centre(rows, k, tie, seed=seed).gain[-1],
            "one product a pick": lambda: plain_k_centre(rows, k, seed),
        },
        "facility_location": {
            "ours": lambda: facility_location(rows, k, tie).notes["value"],
            "stochastic greedy": lambda: stochastic_greedy(rows, k, seed),
        },
        "near_duplicates": {
            "ours": lambda: len(near_duplicates(rows, 0.95, tie).kept),
            "every product": lambda: every_product(rows, 0.95),
        },
        "k_means": {
            "ours": lambda: k_means(rows, k, tie, steps=STEPS, seed=seed).inertia,
            **_kmeans(rows, k, seed),
        },
        "near_duplicate_texts": {
            "ours": lambda: len(near_duplicate_texts(texts, 0.8, tie, seed=seed).kept),
            **_minhash(texts),
        },
    }
    return {
        task: {name: Timed(work) for name, work in contest.items()}
        for task, contest in contests.items()
        if len(contest) > 1
    }


def plain_k_centre(rows: np.ndarray, k: int, seed: int) -> float:
    """Farthest first, all rows at every pick."""
    start = int(np.random.default_rng(seed).integers(len(rows)))
    cosine = rows @ rows[start]
    for _ in range(k - 1):
        row = int(cosine.argmin())
        last = float(cosine[row])
        cosine = np.maximum(cosine, rows @ rows[row])
        cosine[row] = 2.0
    return float(np.sqrt(max(0.0, 2 - 2 * last)))


def stochastic_greedy(rows: np.ndarray, k: int, seed: int) -> float:
    """Mirzasoleiman et al. 2015: at each pick the best of (n / k) ln(1 / 0.1) drawn rows."""
    rng = np.random.default_rng(seed)
    cover = np.zeros(len(rows), dtype=np.float32)
    many = int(np.ceil(len(rows) / k * np.log(10)))
    for _ in range(k):
        table = rows[rng.integers(len(rows), size=many)] @ rows.T
        gains = np.maximum(table - cover, 0).sum(axis=1)
        np.maximum(cover, table[gains.argmax()], out=cover)
    return float(cover.sum())


def every_product(rows: np.ndarray, threshold: float) -> float:
    """Keep first, each block of rows against all before it, in full."""
    kept = np.zeros(len(rows), dtype=bool)
    for start in range(0, len(rows), 2048):
        block = rows[start : start + 2048]
        free = ~(block @ rows[:start][kept[:start]].T >= threshold).any(axis=1)
        like = np.tril(block @ block.T, -1) >= threshold
        for row in range(len(block)):
            free[row] &= not (like[row] & free).any()
        kept[start : start + len(block)] = free
    return float(kept.sum())


def _kmeans(rows: np.ndarray, k: int, seed: int) -> dict[str, Callable[[], float]]:
    """Others start from random rows: their k-means++ over all rows takes minutes."""
    found: dict[str, Callable[[], float]] = {}
    if installed("scikit-learn"):
        from sklearn.cluster import KMeans

        def sklearn() -> float:
            model = KMeans(k, init="random", n_init=1, max_iter=STEPS, tol=0, random_state=seed)
            return float(model.fit(rows).inertia_)

        found["scikit-learn, random start"] = sklearn
    if installed("faiss-cpu"):
        import faiss

        def with_faiss() -> float:
            many = len(rows)
            model = faiss.Kmeans(rows.shape[1], k, niter=STEPS, seed=seed)
            model.cp.max_points_per_centroid, model.cp.min_points_per_centroid = many, 1
            model.train(rows)
            return float(model.index.search(rows, 1)[0].sum())

        found["faiss, random start"] = with_faiss
    return found


def _minhash(texts: list[str]) -> dict[str, Callable[[], float]]:
    """With the same bands over the same 3-word shingles; candidates are not compared exactly."""
    found: dict[str, Callable[[], float]] = {}
    if installed("datasketch"):
        found["datasketch"] = lambda: _datasketch(texts)
    if installed("rensa"):
        found["rensa"] = lambda: _rensa(texts)
    return found


def _shingles(text: str) -> list[str]:
    words = text.lower().split()
    return [" ".join(some) for some in zip(words, words[1:], words[2:], strict=False)]


def _datasketch(texts: list[str]) -> float:
    from datasketch import MinHash, MinHashLSH

    index: Any = MinHashLSH(num_perm=PERMUTATIONS, params=(21, 6))
    kept = 0
    for number, text in enumerate(texts):
        sketch = MinHash(PERMUTATIONS)
        sketch.update_batch([word.encode() for word in _shingles(text)])
        if not index.query(sketch):
            index.insert(str(number), sketch)
            kept += 1
    return float(kept)


def _rensa(texts: list[str]) -> float:
    from rensa import RMinHash, RMinHashLSH

    sets = [_shingles(text) for text in texts]
    digests = RMinHash.digest_matrix_from_token_sets(sets, PERMUTATIONS, 42)
    index: Any = RMinHashLSH(0.8, PERMUTATIONS, 21)
    return float(len(texts) - sum(index.query_duplicate_flags_matrix_one_shot(digests)))
