"""Templates: prefix difference, the plain form, forged control tokens."""

import pytest

from pilotfish.errors import UsageError
from pilotfish.records import Example, Turn
from pilotfish.tokenization import preview, render, template_digest
from tests.tiny.models import byte_tokenizer
from tests.tiny.pools import asked

TALK = Example(
    "a", "s", 0,
    turns=(
        Turn("system", "S"), Turn("user", "hi"), Turn("assistant", "a"),
        Turn("user", "more"), Turn("assistant", "b"),
    ),
)  # fmt: skip
QWEN3_LIKE = (
    "{% for m in messages %}<|{{ m.role }}|>"
    "{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}"
    "{{ m.content | trim }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
REWRITING = "{{ messages | length }} turns{% for m in messages %}{{ m.content }}{% endfor %}"
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def text_of(example: Example, tokenizer: object, form: str = "template") -> str:
    return "".join(part.text for part in render(example, tokenizer, form))


def test_plain_joins_turns_by_a_blank_line_and_ends_every_reply() -> None:
    assert text_of(TALK, byte_tokenizer()) == "S\n\nhi\n\na<|end|>\n\nmore\n\nb<|end|>"
    assert preview(TALK, byte_tokenizer()).count("⟦") == 2


def test_plain_without_a_tokenizer_has_no_end() -> None:
    assert preview(asked("a", "hi", "yes")) == "hi\n\n⟦yes⟧"


def test_a_label_is_the_reply_to_its_text() -> None:
    example = Example("a", "s", 0, text="good film", label="positive")
    assert preview(example) == "good film\n\n⟦positive⟧"
    chat = byte_tokenizer(chat=True)
    assert preview(example, chat) == "<|user|>good film<|end|><|assistant|>⟦positive<|end|>⟧"


def test_plain_text_is_all_response() -> None:
    example = Example("a", "s", 0, text="once upon")
    assert preview(example, byte_tokenizer(chat=True)) == "⟦once upon<|end|>⟧"


def test_chat_template_is_rendered_whole_and_every_reply_is_supervised() -> None:
    tokenizer = byte_tokenizer(chat=True)
    messages = [{"role": t.role, "content": t.content} for t in TALK.turns]
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text_of(TALK, tokenizer) == whole
    supervised = [p.text for p in render(TALK, tokenizer) if p.supervised]
    assert supervised == ["a", "<|end|>", "b", "<|end|>"]
    assert [p.text for p in render(TALK, tokenizer) if p.scored] == ["b"]


def test_plain_can_be_forced_where_there_is_a_chat_template() -> None:
    assert "<|user|>" not in text_of(TALK, byte_tokenizer(chat=True), "plain")


def test_a_lead_only_before_the_last_reply_is_trained_on_but_not_scored() -> None:
    tokenizer = byte_tokenizer(chat=True)
    tokenizer.chat_template = QWEN3_LIKE
    parts = render(TALK, tokenizer)
    assert "".join(p.text for p in parts).endswith("<|assistant|><think></think>b<|end|>\n")
    assert [p.text for p in parts if p.supervised] == [
        "a", "<|end|>", "<think></think>", "b", "<|end|>",
    ]  # fmt: skip
    assert [p.text for p in parts if p.scored] == ["b"]


def test_a_template_that_strips_is_followed() -> None:
    tokenizer = byte_tokenizer(chat=True)
    tokenizer.chat_template = QWEN3_LIKE
    assert [p.text for p in render(asked("a", "hi", " yes\n"), tokenizer) if p.scored] == ["yes"]


def test_a_template_that_keeps_no_prefix_is_refused_in_words() -> None:
    tokenizer = byte_tokenizer(chat=True)
    tokenizer.chat_template = REWRITING
    with pytest.raises(UsageError, match="not prefix-preserving"):
        render(TALK, tokenizer)


def test_a_template_that_refuses_a_role_says_so() -> None:
    tokenizer = byte_tokenizer(chat=True)
    tokenizer.chat_template = NO_SYSTEM
    with pytest.raises(UsageError, match="no system"):
        render(TALK, tokenizer)


def test_superfiltering_is_the_published_text() -> None:
    form = "superfiltering"
    assert text_of(asked("a", "Add.\n1 2", "3"), byte_tokenizer(), form) == "Add.\n1 2\n3"


def test_an_unknown_form_is_named() -> None:
    with pytest.raises(UsageError, match="did you mean 'plain'"):
        render(TALK, byte_tokenizer(), "plian")


@pytest.mark.parametrize("chat", [False, True])
def test_a_spelled_control_token_is_kept_as_text(chat: bool) -> None:
    tokenizer = byte_tokenizer(chat=chat)
    example = asked("a", "say <|end|> twice", "<|end|><|end|>")
    assert "say <|end|> twice" in text_of(example, tokenizer)
    forged = [p for p in render(example, tokenizer) if p.scored]
    assert "".join(p.text for p in forged) == "<|end|><|end|>"
    assert all(p.literal for p in forged)


def test_the_digest_names_form_and_template() -> None:
    plain, chat = byte_tokenizer(), byte_tokenizer(chat=True)
    digests = {
        template_digest(plain), template_digest(chat), template_digest(plain, "superfiltering"),
    }  # fmt: skip
    assert len(digests) == 3
    assert template_digest(chat) == template_digest(byte_tokenizer(chat=True))
