"""Confidence of greedy answers, and draws that depend on nothing but what is drawn."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from pilotfish.demo.models import shipped
from pilotfish.engine.generate import answer, generate
from pilotfish.engine.sampling import pick, point, sample
from pilotfish.errors import UsageError
from pilotfish.models import Loaded, load
from tests.tiny.pools import asked

ROWS = [asked(f"r{i}", f"reverse: {word}", word[::-1]) for i, word in enumerate(
    ("abc", "river", "ab", "lemon", "stone", "zz")
)]  # fmt: skip


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return load(str(shipped("weak")), device="cpu")


def by_hand(loaded: Loaded, prompt: str, room: int) -> tuple[str, float, bool]:
    """Greedy, one token at a time without a cache: text, mean probability, whether it ended."""
    ids = loaded.tokenizer(prompt)["input_ids"]
    chances, answer_ids = [], []
    for _ in range(room):
        logits = loaded.model(input_ids=torch.tensor([ids])).logits[0, -1]
        token = int(logits.argmax())
        chances.append(float(torch.softmax(logits, -1)[token]))
        ids = [*ids, token]
        if token == loaded.tokenizer.eos_token_id:
            return loaded.tokenizer.decode(answer_ids), sum(chances) / len(chances), True
        answer_ids.append(token)
    return loaded.tokenizer.decode(answer_ids), sum(chances) / len(chances), False


def test_confidence_is_the_mean_probability_of_the_tokens_taken_end_mark_included(
    loaded: Loaded,
) -> None:
    found = answer(loaded, ROWS, max_new_tokens=8)
    whole = 0
    for row, text, confidence, reason in zip(
        ROWS, found.text, found.confidence, found.reason, strict=True
    ):
        expected, chance, ended = by_hand(loaded, f"{row.prompt[0].content}\n\n", 8)
        assert text == expected
        assert confidence == pytest.approx(chance, abs=1e-5)
        assert (reason == "") == (ended and bool(expected))
        whole += ended
    assert whole  # the world's model ends some of its answers


def test_an_answer_out_of_room_has_a_reason_and_keeps_its_text(loaded: Loaded) -> None:
    found = answer(loaded, ROWS[:2], max_new_tokens=1)
    assert list(found.reason) == ["answer_cut_off"] * 2
    assert list(found.text) == generate(loaded, ROWS[:2], max_new_tokens=1)
    assert np.isfinite(found.confidence).all()


def test_confidence_does_not_depend_on_the_batch(loaded: Loaded) -> None:
    together = answer(loaded, ROWS, max_new_tokens=8)
    alone = answer(loaded, ROWS[::-1], max_new_tokens=8, batch_tokens=1)
    assert list(together.text) == list(alone.text[::-1])
    assert together.confidence == pytest.approx(alone.confidence[::-1], abs=1e-5)


def test_samples_do_not_depend_on_batch_order_or_neighbours(loaded: Loaded) -> None:
    how = {"samples": 4, "temperature": 1.0, "seed": 3, "max_new_tokens": 8}
    together = sample(loaded, ROWS, **how)
    alone = [sample(loaded, [row], batch_tokens=1, **how)[0] for row in ROWS[::-1]][::-1]
    assert [[w.text for w in row] for row in together] == [[w.text for w in row] for row in alone]
    more = sample(loaded, ROWS[:1], **{**how, "samples": 6})[0]
    assert [w.text for w in more[:4]] == [w.text for w in together[0]]
    other = sample(loaded, ROWS, **{**how, "seed": 4})
    assert [[w.text for w in row] for row in other] != [[w.text for w in row] for row in together]


def test_a_cold_draw_is_the_greedy_answer(loaded: Loaded) -> None:
    drawn = sample(loaded, ROWS, samples=2, temperature=1e-4, seed=0, max_new_tokens=8)
    greedy = generate(loaded, ROWS, max_new_tokens=8)
    assert [[w.text for w in row] for row in drawn] == [[text] * 2 for text in greedy]


def test_draws_follow_the_distribution_at_the_temperature() -> None:
    logits = torch.tensor([[math.log(0.5), math.log(0.3), -math.inf, math.log(0.2)]])
    points = [point(0, (b"key", number), 0) for number in range(4000)]
    tokens, chances = pick(logits.expand(4000, -1), points, 1.0)
    counts = Counter(tokens.tolist())
    assert counts[2] == 0
    for token, share in ((0, 0.5), (1, 0.3), (3, 0.2)):
        assert counts[token] / 4000 == pytest.approx(share, abs=4 * math.sqrt(0.25 / 4000))
    assert chances[0] == pytest.approx([0.5, 0.3, 0, 0.2][int(tokens[0])])
    hot, _ = pick(logits.expand(4000, -1), points, 2.0)
    root = [math.sqrt(p) for p in (0.5, 0.3, 0.2)]
    assert Counter(hot.tolist())[0] / 4000 == pytest.approx(root[0] / sum(root), abs=0.04)


def test_points_lie_in_the_unit_interval_and_take_the_first_token_that_reaches_them() -> None:
    assert pick(torch.tensor([[0.0, 0.0]]), [0.0], 1.0)[0].item() == 0
    assert pick(torch.tensor([[0.0, 0.0]]), [0.5], 1.0)[0].item() == 1
    assert pick(torch.tensor([[-math.inf, 0.0]]), [0.0], 1.0)[0].item() == 1
    assert pick(torch.tensor([[0.0, -math.inf]]), [1 - 2**-53], 1.0)[0].item() == 0
    many = [point(seed, (b"k", n), at) for seed in (0, 1) for n in range(3) for at in range(3)]
    assert len(set(many)) == len(many) and all(0 <= each < 1 for each in many)


def test_samples_and_temperature_are_checked(loaded: Loaded) -> None:
    for changed in ({"samples": 0}, {"temperature": 0.0}, {"temperature": math.nan}):
        how = {"samples": 2, "temperature": 1.0, "seed": 0, "max_new_tokens": 4, **changed}
        with pytest.raises(UsageError, match="cannot draw"):
            sample(loaded, ROWS[:1], **how)
