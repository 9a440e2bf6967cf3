"""Rows have the lengths they say, whichever corpus they come from."""

import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks.growth import quarters
from benchmarks.peers import items
from benchmarks.rows import (
    ALPACA,
    DOLLY,
    SHARES,
    Dolly,
    Row,
    Words,
    by_quantiles,
    log_normal,
    read,
    write,
)


def test_drawn_lengths_have_the_quantiles_they_are_named_for() -> None:
    for drawn, known in zip(by_quantiles(200_000, 0), DOLLY, strict=True):
        assert np.quantile(drawn, SHARES[1:-2]) == pytest.approx(known[1:-2], rel=0.05)
    prompts, responses = log_normal(200_000, ALPACA, 0)
    assert (prompts.mean(), responses.mean()) == pytest.approx((32, 85), rel=0.03)
    assert min(prompts.min(), responses.min()) == 2


def test_words_are_tokens() -> None:
    words = Words()
    rows = words.of_lengths(np.array([3, 7]), np.array([5, 2]), 0)
    tokenizer = words.tokenizer(5000)
    assert len(tokenizer) == 5000
    assert [len(tokenizer.encode(row.asked)) for row in rows] == [3, 7]
    joint, alone = items(rows[0], tokenizer, 512)
    assert (len(joint[0]), joint[1], len(alone[0]), alone[1]) == (8, 3, 5, 1)
    assert words.of_lengths(np.array([3]), np.array([5]), 0) == rows[:1]


def test_rows_too_long_for_their_prompt_have_no_items() -> None:
    tokenizer = Words().tokenizer(5000)
    row = Row(" ".join(["w1"] * 9), "w2 w3")
    assert items(row, tokenizer, 9) == (([], 0), ([], 0))
    joint, alone = items(row, tokenizer, 10)
    assert len(joint[0]) == 10 and len(alone[0]) == 2
    assert items(Row("w1", ""), tokenizer, 10) == (([], 0), ([], 0))


def test_rows_come_back_from_their_file(tmp_path: Path) -> None:
    rows = [Row("a\u2028b", 'c "d"'), Row("", "\n")]
    path = write(rows, tmp_path / "rows.jsonl")
    assert read(path) == rows
    assert json.loads(path.read_text("utf-8").split("\n")[1])["id"] == "1"


def test_rows_of_a_length_make_up_the_tokens() -> None:
    prompts, responses = quarters(256, 8192)
    assert len(prompts) == 32 and set(prompts + 1 + responses) == {256}


def test_a_smaller_vocabulary_keeps_the_first_merges(data_dir: Path) -> None:
    dolly = Dolly(data_dir)
    whole, part = dolly.tokenizer(50257), dolly.tokenizer(49152)
    assert (len(whole), len(part)) == (50257, 49152)
    text = "The sum of two primes.\n"
    assert part.encode(text) == whole.encode(text)
    assert part.decode(part.encode(text)) == text
    assert (whole.eos_token_id, part.eos_token_id) == (50256, 49151)


def test_the_quantiles_are_those_of_the_rows(data_dir: Path) -> None:
    dolly = Dolly(data_dir)
    rows, tokenizer = dolly.sample(3000, 0), dolly.tokenizer(50257)
    for which, known in enumerate(DOLLY):
        texts = [(f"{row.asked}\n", row.response)[which] for row in rows]
        counted = [len(ids) for ids in tokenizer(texts, verbose=False)["input_ids"]]
        assert np.quantile(counted, SHARES[2:-2]) == pytest.approx(known[2:-2], rel=0.15)


@pytest.mark.slow
def test_cut_rows_have_about_the_tokens_asked_for(data_dir: Path) -> None:
    dolly = Dolly(data_dir)
    [row] = dolly.of_lengths(np.array([40]), np.array([90]), 0)
    tokenizer = dolly.tokenizer(50257)
    counted = [len(tokenizer.encode(text)) for text in (row.asked, row.response)]
    assert counted == pytest.approx([40, 90], abs=3)
