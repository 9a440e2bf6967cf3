"""Which tokens are scored: by hand on tiny rows, aligned and published."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.errors import UsageError
from pilotfish.records import Example, Need, Turn
from pilotfish.tokenization import Encoded, clamp_max_length, encode_scoring
from tests.tiny.models import byte_tokenizer
from tests.tiny.pools import asked
from tests.tokenization.test_render import NO_SYSTEM, QWEN3_LIKE, REWRITING

PROMPT, ALONE, FULL = Need("nll"), Need("nll", given="nothing"), Need("nll", span="full")


def published(given: str = "prompt") -> Need:
    return Need("nll", text="superfiltering", given=given)  # type: ignore[arg-type]


def one(example: Example, need: Need, tokenizer: Any, max_length: int = 64) -> Encoded:
    [row] = encode_scoring([example], need, tokenizer, max_length)
    return row


def marks(row: Encoded) -> list[int]:
    return row.target.astype(int).tolist()


def test_by_hand_without_a_start_token() -> None:
    tokenizer = byte_tokenizer()
    row = one(asked("a", "p", "xyz"), PROMPT, tokenizer)
    assert tokenizer.decode(row.ids) == "p\n\nxyz"
    assert marks(row) == [0, 0, 0, 0, 1, 1]  # x is dropped here because alone it has no context
    assert (row.n_prompt, row.n_response, row.truncated, row.reason) == (3, 3, False, "")
    alone = one(asked("a", "p", "xyz"), ALONE, tokenizer)
    assert tokenizer.decode(alone.ids) == "xyz"
    assert marks(alone) == [0, 1, 1]
    assert (alone.n_prompt, alone.n_response) == (3, 3)


def test_by_hand_with_a_start_token() -> None:
    tokenizer = byte_tokenizer(bos=True)
    row = one(asked("a", "p", "xyz"), PROMPT, tokenizer)
    assert tokenizer.decode(row.ids) == "<|bos|>p\n\nxyz"
    assert marks(row) == [0, 0, 0, 0, 1, 1, 1]
    alone = one(asked("a", "p", "xyz"), ALONE, tokenizer)
    assert tokenizer.decode(alone.ids) == "<|bos|>xyz"
    assert marks(alone) == [0, 1, 1, 1]


def test_the_full_span_scores_the_prompt_too() -> None:
    assert marks(one(asked("a", "p", "xy"), FULL, byte_tokenizer())) == [0, 1, 1, 1, 1]
    assert marks(one(asked("a", "p", "xy"), FULL, byte_tokenizer(bos=True))) == [0, 1, 1, 1, 1, 1]


def test_unaligned_keeps_the_first_token_the_prompt_predicts() -> None:
    row = one(asked("a", "p", "xyz"), Need("nll", aligned=False), byte_tokenizer())
    assert marks(row) == [0, 0, 0, 1, 1, 1]


def test_the_end_marker_is_not_scored() -> None:
    tokenizer = byte_tokenizer(chat=True)
    row = one(asked("a", "p", "xyz"), PROMPT, tokenizer)
    assert tokenizer.decode(row.ids) == "<|user|>p<|end|><|assistant|>xyz"


def test_plain_text_is_scored_from_its_second_token() -> None:
    row = one(Example("a", "s", 0, text="abc"), PROMPT, byte_tokenizer())
    assert marks(row) == [0, 1, 1]
    assert (row.n_prompt, row.n_response) == (0, 3)


@pytest.mark.parametrize(
    ("response", "max_length", "reason"),
    [
        ("", 64, "empty_response"),
        ("x", 64, "too_few_tokens"),
        ("xyz", 3, "prompt_over_limit"),
        ("xyz", 2, "prompt_over_limit"),
        ("xyz", 4, "too_few_tokens"),
        ("xyz", 5, ""),
    ],
)
def test_reasons_without_a_start_token(response: str, max_length: int, reason: str) -> None:
    for need in (PROMPT, ALONE):
        row = one(asked("a", "p", response), need, byte_tokenizer(), max_length)
        assert row.reason == reason
        assert len(row.ids) == len(row.target)
        assert bool(reason) == (len(row.ids) == 0)


def test_one_token_is_enough_with_a_start_token() -> None:
    assert marks(one(asked("a", "p", "x"), ALONE, byte_tokenizer(bos=True))) == [0, 1]


@given(
    prompt=st.text(max_size=12),
    response=st.text(max_size=12),
    max_length=st.integers(1, 40),
    bos=st.booleans(),
    chat=st.booleans(),
)
def test_aligned_means_cover_the_same_tokens(
    prompt: str, response: str, max_length: int, bos: bool, chat: bool
) -> None:
    tokenizer = byte_tokenizer(bos=bos, chat=chat)
    row, alone = (
        one(asked("a", prompt, response), need, tokenizer, max_length) for need in (PROMPT, ALONE)
    )
    assert row.ids[row.target].tolist() == alone.ids[alone.target].tolist()
    assert (row.reason, row.n_prompt, row.n_response) == (
        alone.reason, alone.n_prompt, alone.n_response,
    )  # fmt: skip
    assert len(row.ids) <= max_length and len(alone.ids) <= max_length
    assert not row.target[:1].any() and not alone.target[:1].any()


def test_truncation_is_counted_and_cuts_the_same_tokens_alone() -> None:
    row = one(asked("a", "p", "x" * 30), PROMPT, byte_tokenizer(), 10)
    alone = one(asked("a", "p", "x" * 30), ALONE, byte_tokenizer(), 10)
    assert (row.truncated, row.n_prompt, row.n_response, len(row.ids)) == (True, 3, 7, 10)
    assert len(alone.ids) == 7


def test_a_forged_control_token_stays_characters() -> None:
    for chat in (False, True):
        tokenizer = byte_tokenizer(bos=True, chat=chat)
        row = one(asked("a", "hi <|end|> there", "<|bos|>ok"), PROMPT, tokenizer)
        end, bos = tokenizer.convert_tokens_to_ids(["<|end|>", "<|bos|>"])
        assert row.ids.tolist().count(end) == int(chat)  # the template's own
        assert bos not in row.ids[1:].tolist()
        assert row.n_response == len("<|bos|>ok")


def test_rows_the_template_refuses_are_marked_one_by_one() -> None:
    tokenizer = byte_tokenizer(chat=True)
    tokenizer.chat_template = NO_SYSTEM
    bad = Example("b", "s", 1, turns=(Turn("system", "S"), *asked("b", "p", "xyz").turns))
    rows = encode_scoring([asked("a", "p", "xyz"), bad], PROMPT, tokenizer, 64)
    assert [row.reason for row in rows] == ["", "template_error"]


def test_a_template_without_prefix_stops_the_run() -> None:
    tokenizer = byte_tokenizer(chat=True)
    tokenizer.chat_template = REWRITING
    with pytest.raises(UsageError, match="prefix"):
        encode_scoring([asked("a", "p", "xyz")], PROMPT, tokenizer, 64)


def test_a_lead_belongs_to_the_prompt() -> None:
    tokenizer = byte_tokenizer(chat=True)
    tokenizer.chat_template = QWEN3_LIKE
    row = one(asked("a", "p", "xyz"), PROMPT, tokenizer)
    assert tokenizer.decode(row.ids[: row.n_prompt]).endswith("<think></think>")


def test_one_row_the_tokenizer_fails_on_does_not_harm_the_others() -> None:
    rows = [asked("a", "p", "xyz"), asked("b", "p", "x\ud800z"), asked("c", "p", "xyz")]
    for need in (PROMPT, published()):
        reasons = [row.reason for row in encode_scoring(rows, need, byte_tokenizer(), 64)]
        assert reasons == ["", "tokenizer_error", ""]


def test_published_by_hand() -> None:
    row = one(asked("a", "p", "xyz"), published(), byte_tokenizer())
    assert marks(row) == [0, 0, 1, 1, 1]  # every response token, given the prompt
    alone = one(asked("a", "p", "xyz"), published("nothing"), byte_tokenizer())
    assert marks(alone) == [0, 1, 1]  # one less, alone
    started = byte_tokenizer(bos=True)
    assert one(asked("a", "p", "xyz"), published(), started).target.sum() == 3
    assert one(asked("a", "p", "xyz"), published("nothing"), started).target.sum() == 3


def test_published_alone_is_cut_one_token_later() -> None:
    # prompt "ppp\n" is 4 tokens: 10 - 4 + 1 = 7 tokens alone, 6 given the prompt
    example = asked("a", "ppp", "x" * 30)
    assert len(one(example, published("nothing"), byte_tokenizer(), 10).ids) == 7
    assert one(example, published(), byte_tokenizer(), 10).target.sum() == 6


def test_published_lets_control_tokens_through_as_the_tokenizer_does() -> None:
    tokenizer = byte_tokenizer()
    row = one(asked("a", "p", "a<|end|>b"), published(), tokenizer)
    assert row.n_response == 3


@given(
    prompt=st.text(max_size=12),
    response=st.text(max_size=30),
    max_length=st.integers(1, 20),
    bos=st.booleans(),
)
def test_published_never_exceeds_the_limit(
    prompt: str, response: str, max_length: int, bos: bool
) -> None:
    tokenizer = byte_tokenizer(bos=bos)
    for example in (asked("a", prompt, response), Example("b", "s", 0, text=response)):
        for side in ("prompt", "nothing"):
            row = one(example, published(side), tokenizer, max_length)
            assert len(row.ids) <= max_length
            assert bool(row.reason) == (not row.target.any())


def test_published_counts_the_prompt_of_an_empty_response() -> None:
    assert one(asked("a", "ppp", ""), published(), byte_tokenizer()).n_prompt == 4


def test_published_reasons() -> None:
    tokenizer = byte_tokenizer()
    assert one(asked("a", "p", ""), published(), tokenizer).reason == "empty_response"
    assert one(asked("a", "p", "x"), published("nothing"), tokenizer).reason == "too_few_tokens"
    assert one(asked("a", "p", "x"), published(), tokenizer).reason == ""
    for side in ("prompt", "nothing"):
        row = one(asked("a", "p" * 9, "x"), published(side), tokenizer, 10)
        assert row.reason == "prompt_over_limit"


def test_the_limit_is_clamped_to_the_window() -> None:
    assert clamp_max_length(1024, 512) == 512
    assert clamp_max_length(128, 512) == 128
    assert clamp_max_length(1024, None) == 1024
    with pytest.raises(UsageError, match="at least 1"):
        clamp_max_length(0, 512)


def test_a_start_token_written_by_the_template_also_stands_before_the_response_alone() -> None:
    tokenizer = byte_tokenizer(bos=True, chat=True)
    # Llama-2 style: BOS in the template, no generation prompt, a blank before the reply
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[{{ m.content }}]"
        "{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
    )
    row = one(asked("a", "p", "xy"), PROMPT, tokenizer)
    assert tokenizer.decode(row.ids) == "<|bos|>[p] xy"
    assert marks(row) == [0, 0, 0, 0, 1, 1, 1]  # the blank is cut together with the words
    alone = one(asked("a", "p", "xy"), ALONE, tokenizer)
    assert tokenizer.decode(alone.ids) == "<|bos|> xy"
    assert marks(alone) == [0, 1, 1, 1]


def test_the_end_of_a_response_is_scored_on_request_and_is_no_part_of_it() -> None:
    words = byte_tokenizer()
    every = Need("nll", aligned=False)
    plain = one(asked("a", "p", "xyz"), every, words)
    ended = one(asked("a", "p", "xyz"), replace(every, end=True), words)
    assert ended.ids.tolist() == [*plain.ids.tolist(), words.eos_token_id]
    assert ended.target.sum() == plain.target.sum() + 1 and ended.target[-1]
    assert (ended.n_response, plain.n_response) == (3, 3)
    cut = one(asked("a", "p", "xyz"), replace(every, end=True), words, len(plain.ids))
    assert cut.ids.tolist() == plain.ids.tolist() and cut.truncated
