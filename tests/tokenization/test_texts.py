"""Texts for a classifier: framed as the tokenizer frames them, cut with their last mark kept."""

from pilotfish.records import Example, Turn
from pilotfish.tokenization import encode_texts
from tests.tiny.encoders import framed_tokenizer
from tests.tiny.models import byte_tokenizer

PAD, CLS, SEP = 0, 1, 2


def texts(*some: str) -> list[Example]:
    return [Example(str(i), "d", i, text=text, label="x") for i, text in enumerate(some)]


def test_a_text_stands_between_the_marks_of_its_tokenizer() -> None:
    tokenizer = framed_tokenizer()
    short, long = encode_texts(texts("ab", "abcdefgh"), tokenizer, 6)
    plain = tokenizer("abcdefgh", add_special_tokens=False)["input_ids"]
    assert short.ids.tolist() == [CLS, *plain[:2], SEP] and not short.truncated
    assert long.ids.tolist() == [CLS, *plain[:4], SEP] and long.truncated
    assert not short.target.any() and (short.n_prompt, short.n_response) == (4, 0)


def test_no_mark_is_made_up_where_a_tokenizer_has_none() -> None:
    tokenizer = byte_tokenizer()
    [row] = encode_texts(texts("abc"), tokenizer, 2)
    assert row.ids.tolist() == tokenizer("ab")["input_ids"] and row.truncated


def test_a_mark_spelled_in_a_text_stays_plain_characters() -> None:
    [row] = encode_texts(texts("[SEP][PAD]"), framed_tokenizer(), 64)
    assert len(row.ids) == 12
    assert row.ids.tolist().count(SEP) == 1 and PAD not in row.ids


def test_what_cannot_be_read_is_named() -> None:
    empty, blank = encode_texts(texts("", " \n"), framed_tokenizer(), 64)
    assert (empty.reason, blank.reason) == ("empty_text", "empty_text") and not len(empty.ids)
    assert encode_texts([], framed_tokenizer(), 64) == []


def test_a_conversation_is_read_up_to_its_answer() -> None:
    turns = (Turn("system", "be kind"), Turn("user", "hi"), Turn("assistant", "label"))
    [row] = encode_texts([Example("0", "d", 0, turns=turns)], framed_tokenizer(), 64)
    [same] = encode_texts(texts("be kind\n\nhi"), framed_tokenizer(), 64)
    assert row.ids.tolist() == same.ids.tolist()
