"""Which tokens are trained on, and which prompt a model answers."""

from pilotfish.records import Example, Turn
from pilotfish.tokenization import encode_prompts, encode_training, end_ids, end_marker
from tests.tiny.models import byte_tokenizer
from tests.tiny.pools import asked
from tests.tokenization.test_render import QWEN3_LIKE, TALK


def test_by_hand_the_reply_and_its_end_are_targets() -> None:
    tokenizer = byte_tokenizer()
    [row] = encode_training([asked("a", "p", "xy")], tokenizer, 64)
    assert tokenizer.decode(row.ids) == "p\n\nxy<|end|>"
    assert row.target.astype(int).tolist() == [0, 0, 0, 1, 1, 1]
    assert (row.n_prompt, row.n_response) == (3, 3)


def test_every_assistant_turn_is_a_target() -> None:
    tokenizer = byte_tokenizer(chat=True)
    [row] = encode_training([TALK], tokenizer, 64)
    assert tokenizer.decode(row.ids[row.target]) == "a<|end|>b<|end|>"


def test_what_follows_the_end_token_is_no_target() -> None:
    tokenizer = byte_tokenizer(chat=True)
    tokenizer.chat_template = QWEN3_LIKE
    [row] = encode_training([asked("a", "p", "xy")], tokenizer, 64)
    assert tokenizer.decode(row.ids).endswith("<|end|>\n")
    assert tokenizer.decode(row.ids[row.target]) == "<think></think>xy<|end|>"


def test_reasons() -> None:
    rows = [
        asked("a", "p", ""),
        asked("b", "p" * 20, "xy"),
        asked("c", "p", "x" * 20),
        Example("d", "s", 0, turns=(Turn("user", "no answer"),)),
    ]
    encoded = encode_training(rows, byte_tokenizer(), 10)
    assert [row.reason for row in encoded] == [
        "empty_response", "no_response_tokens", "", "empty_response",
    ]  # fmt: skip
    assert [row.truncated for row in encoded] == [False, True, True, True]


def test_plain_text_is_supervised_whole_but_for_the_first_token() -> None:
    [row] = encode_training([Example("a", "s", 0, text="abc")], byte_tokenizer(), 64)
    assert row.target.astype(int).tolist() == [0, 1, 1, 1]
    [row] = encode_training([Example("a", "s", 0, text="abc")], byte_tokenizer(bos=True), 64)
    assert row.target.astype(int).tolist() == [0, 1, 1, 1, 1]


def test_the_question_is_how_the_training_row_begins() -> None:
    examples = [asked("a", "p", "xy"), TALK, Example("b", "s", 0, text="film", label="good")]
    for bos in (False, True):
        for chat in (False, True):
            tokenizer = byte_tokenizer(bos=bos, chat=chat)
            prompts = encode_prompts(examples, tokenizer, 64, 4)
            trained = encode_training(examples, tokenizer, 64)
            for question, row in zip(prompts, trained, strict=True):
                begins = row.ids[: len(question.ids)]
                assert question.ids.tolist() == begins.tolist()
                assert row.target[len(question.ids)]


def test_a_prompt_without_room_for_its_answer_is_left_out() -> None:
    tokenizer = byte_tokenizer()
    rows = [asked("a", "p" * 10, "x"), Example("b", "s", 0, text="plain")]
    assert [r.reason for r in encode_prompts(rows, tokenizer, 16, 4)] == ["", "empty_prompt"]
    assert encode_prompts(rows, tokenizer, 15, 4)[0].reason == "prompt_over_limit"


def test_ends_of_a_reply() -> None:
    plain, chat = byte_tokenizer(), byte_tokenizer(chat=True)
    assert end_ids(plain) == [plain.eos_token_id]
    assert end_marker(plain) == ""
    chat.chat_template = chat.chat_template.replace("<|end|>", "<|system|>")
    assert end_ids(chat) == sorted([chat.eos_token_id, chat.convert_tokens_to_ids("<|system|>")])
    assert end_marker(chat) == "<|system|>"
