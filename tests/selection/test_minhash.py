"""Near-duplicate texts: exact similarities decide, and MinHash misses as rarely as it says."""

import random
import unicodedata

import numpy as np
import pytest

from pilotfish.errors import UsageError
from pilotfish.selection.minhash import Bands, _signatures, bands_for, near_duplicate_texts
from pilotfish.selection.shingles import _WITHOUT_SPACES, shingles


def slow_words(text: str) -> list[str]:
    words, run = [], ""
    for letter in [*text.lower(), " "]:
        alone = any(first <= ord(letter) <= last for first, last in _WITHOUT_SPACES)
        used = unicodedata.category(letter)[0] in "LNM"
        if used and not alone:
            run += letter
            continue
        words += [run] if run else []
        run = ""
        words += [letter] if used else []
    return words


def slow_shingles(text: str, w: int) -> set[tuple[str, ...]]:
    words = slow_words(text)
    return {tuple(words[i : i + w]) for i in range(max(1, len(words) - w + 1))} if words else set()


def jaccard(left: set[tuple[str, ...]], right: set[tuple[str, ...]]) -> float:
    return len(left & right) / len(left | right)


def brute(texts: list[str], threshold: float, rank: np.ndarray, w: int = 3) -> list[int]:
    sets = [slow_shingles(text, w) for text in texts]
    keeper, kept = [-1] * len(texts), []
    for row in np.argsort(rank).tolist():
        alike = [jaccard(sets[row], sets[other]) if sets[row] else 0.0 for other in kept]
        if alike and max(alike) >= threshold:
            keeper[row] = kept[alike.index(max(alike))]
        elif sets[row]:
            kept.append(row)
    return keeper


def corpus(n: int, *, seed: int) -> list[str]:
    """Half of the texts are copies of others with some words changed."""
    draw = random.Random(seed)
    vocabulary = [f"word{i}" for i in range(3000)]
    texts = [" ".join(draw.choices(vocabulary, k=draw.randint(1, 60))) for _ in range(n // 2)]
    for _ in range(n - n // 2):
        words = draw.choice(texts).split()
        for _ in range(draw.choice([0, 0, 1, 2, 5])):
            words[draw.randrange(len(words))] = draw.choice(vocabulary)
        texts.append(" ".join(words))
    return texts


ODD_TEXTS = [
    "", " \n ", "!?", "One", "one!", "one two", "One, two; three", "don't  stop", "a\nb\nc",
    "数据选择很重要", "数据选择很重要吗", "สวัสดี", "नमस्ते दुनिया",
    "İstanbul", "\ud800 lone", "x" * 5000, "42 42 42 42",
]  # fmt: skip


@pytest.mark.parametrize("w", [1, 2, 5])
def test_hashed_shingles_are_the_slow_ones(w: int) -> None:
    texts = [*ODD_TEXTS, *corpus(40, seed=1)]
    names: dict[int, tuple[str, ...]] = {}
    for first, hashes, offsets in shingles(texts, w):
        for place in range(len(offsets) - 1):
            expected = slow_shingles(texts[first + place], w)
            found = set(hashes[offsets[place] : offsets[place + 1]].tolist())
            assert len(found) == len(expected), texts[first + place]
            for words in expected:  # the same words hash alike in every text
                code = _only(words, w)
                assert code in found
                assert names.setdefault(code, words) == words


def _only(words: tuple[str, ...], w: int) -> int:
    ((_, hashes, _),) = shingles([" ".join(words)], w)
    return int(hashes[0])


def test_batches_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    from pilotfish.selection import minhash
    from pilotfish.selection import shingles as words

    texts = [*ODD_TEXTS, *corpus(100, seed=2)]
    whole, reason = _signatures(texts, 3, 16, 0)
    monkeypatch.setattr(words, "_CHARACTERS", 50)
    monkeypatch.setattr(minhash, "_SHINGLES", 7)
    pieces, again = _signatures(texts, 3, 16, 0)
    assert pieces.tolist() == whole.tolist() and again.tolist() == reason.tolist()
    assert reason[:4].tolist() == ["no_words", "no_words", "no_words", ""]


def test_signatures_estimate_jaccard() -> None:
    left = [f"w{i}" for i in range(400)]
    right = [*left[:300], *(f"v{i}" for i in range(100))]
    signature, _ = _signatures([" ".join(left), " ".join(right)], 1, 4096, 0)
    share = float((signature[0] == signature[1]).mean())
    assert share == pytest.approx(300 / 500, abs=4 * (0.6 * 0.4 / 4096) ** 0.5)


@pytest.mark.parametrize("threshold", [0.5, 0.8, 1.0])
def test_finds_what_brute_force_finds(threshold: float) -> None:
    texts = [*corpus(400, seed=3), *ODD_TEXTS]
    rank = np.random.default_rng(4).permutation(len(texts))
    found = near_duplicate_texts(texts, threshold, rank, miss=1e-6, permutations=256)
    assert found.keeper.tolist() == brute(texts, threshold, rank)
    assert found.miss < 1e-4


def test_misses_as_often_as_stated() -> None:
    """600 independent pairs of one similarity, with bands coarse enough to miss a tenth."""
    draw = random.Random(5)
    texts = []
    for pair in range(600):
        words = [f"p{pair}w{i}" for i in range(45)]
        other = [*words[:40], *(f"p{pair}v{i}" for i in range(5))]  # Jaccard 40 / 50 by words
        texts += [" ".join(words), " ".join(draw.sample(other, len(other)))]
    bands = bands_for(0.8, 48, 0.2)
    stated = bands.miss(0.8)
    found = near_duplicate_texts(
        texts, 0.8, np.arange(1200), words=1, permutations=48, miss=0.2, seed=6
    )
    missed = 1 - (found.keeper >= 0).sum() / 600
    assert 0.05 < stated < 0.2 and found.miss == pytest.approx(stated, abs=1e-4)
    assert abs(missed - stated) < 4 * (stated * (1 - stated) / 600) ** 0.5


def test_bands() -> None:
    assert bands_for(0.8, 128, 0.01) == Bands(21, 6)
    assert Bands(21, 6).miss(0.8) == pytest.approx((1 - 0.8**6) ** 21)
    assert bands_for(1.0, 128, 0.01) == Bands(1, 128)
    with pytest.raises(UsageError, match="4 permutations miss more"):
        bands_for(0.5, 4, 0.01)
    with pytest.raises(UsageError, match="threshold is a similarity"):
        near_duplicate_texts(["a"], 0.0, np.arange(1))


def test_the_best_copy_is_kept_and_bad_rows_are_named() -> None:
    texts = [
        "the cat sat on the mat",
        "The cat sat on the mat!",
        "",
        "a dog",
        "the cat sat on the mat",
    ]
    eligible = np.array([True, True, True, True, False])
    priority = np.array([0.2, 0.7, 0.9, 0.1, 1.0])
    found = near_duplicate_texts(texts, 0.9, np.arange(5), priority=priority, eligible=eligible)
    assert found.keeper.tolist() == [1, -1, -1, -1, -1] and found.kept.tolist() == [1, 3]
    assert found.reason.tolist() == ["", "", "no_words", "", "not_eligible"]
    assert found.similarity[0] == 1.0


def test_shuffled_texts_give_the_same_answer_and_seeds_are_reproducible() -> None:
    texts = corpus(300, seed=7)
    rng = np.random.default_rng(8)
    tie, shuffle = rng.permutation(300), rng.permutation(300)
    straight = near_duplicate_texts(texts, 0.7, tie, seed=9)
    shuffled = near_duplicate_texts([texts[i] for i in shuffle], 0.7, tie[shuffle], seed=9)
    assert np.append(shuffle, -1)[shuffled.keeper].tolist() == straight.keeper[shuffle].tolist()
    assert near_duplicate_texts(texts, 0.7, tie, seed=9).keeper.tolist() == straight.keeper.tolist()
