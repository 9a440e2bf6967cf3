"""Every shape of data: what becomes of it, what is refused, and why."""

from typing import Any

import pytest

from pilotfish.data.detect import answered_record, detect, split_record
from pilotfish.data.formats import FORMATS, FormatMismatch
from pilotfish.errors import UsageError
from pilotfish.records import Turn

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"

GOOD: dict[str, dict[str, Any]] = {
    "messages": {
        "messages": [{"role": "user", "content": " hi "}, {"role": "assistant", "content": "yo\n"}]
    },
    "sharegpt": {
        "conversations": [{"from": "human", "value": " hi "}, {"from": "gpt", "value": "yo\n"}]
    },
    "alpaca": {"instruction": " hi ", "input": "", "output": "yo\n"},
    "prompt_completion": {"prompt": " hi ", "completion": "yo\n"},
    "text_label": {"text": " hi ", "label": "yo"},
    "plain_text": {"text": " hi "},
}


def turns_of(name: str, record: dict[str, Any]) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in FORMATS[name].parse(record).turns]


def reason_of(name: str, record: dict[str, Any]) -> str:
    with pytest.raises(FormatMismatch) as caught:
        FORMATS[name].parse(record)
    return caught.value.reason


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_finds_its_own_record_and_leaves_the_rest_in_meta(name: str) -> None:
    record = {**GOOD[name], "score": 3, "source": "web"}
    found = detect([record])
    assert found is FORMATS[name]
    assert found.name == name
    content, meta = split_record(record, {}, found)
    assert meta == {"score": 3, "source": "web"}
    assert bool(content.turns) != (content.text is not None)


@pytest.mark.parametrize("name", ["messages", "sharegpt", "alpaca", "prompt_completion"])
def test_the_same_talk_in_four_shapes_is_the_same_content_whitespace_untouched(name: str) -> None:
    assert FORMATS[name].parse(GOOD[name]).turns == (Turn(USER, " hi "), Turn(ASSISTANT, "yo\n"))


@pytest.mark.parametrize("name", FORMATS)
def test_each_field_missing_null_or_mistyped_has_its_reason(name: str) -> None:
    for field in GOOD[name]:
        if field == "input":
            continue
        rest = {key: value for key, value in GOOD[name].items() if key != field}
        assert reason_of(name, rest) == "missing_field", field
        assert reason_of(name, {**rest, field: None}) == "missing_field", field
        assert reason_of(name, {**rest, field: {"a": 1}}) == "wrong_type", field


def test_alpaca_joins_instruction_and_input_with_one_newline() -> None:
    record = {"instruction": "Sort. ", "input": "b a", "output": ""}
    assert turns_of("alpaca", record) == [(USER, "Sort. \nb a"), (ASSISTANT, "")]
    assert turns_of("alpaca", {**record, "input": None})[0] == (USER, "Sort. ")


def test_alpaca_system_and_history_come_first() -> None:
    record = {
        "instruction": "c",
        "output": "d",
        "system": "be kind",
        "history": [["a", "b"]],
        "n": 1,
    }
    assert turns_of("alpaca", record) == [
        (SYSTEM, "be kind"), (USER, "a"), (ASSISTANT, "b"), (USER, "c"), (ASSISTANT, "d"),
    ]  # fmt: skip
    assert split_record(record, {}, FORMATS["alpaca"])[1] == {"n": 1}


@pytest.mark.parametrize("history", ["a", [["a"]], [["a", 1]], ["ab"]])
def test_alpaca_history_that_is_no_pairs_of_texts_is_wrong_type(history: Any) -> None:
    assert reason_of("alpaca", {**GOOD["alpaca"], "history": history}) == "wrong_type"


def test_sharegpt_speakers_become_roles() -> None:
    talk = [("system", "s"), ("human", "q"), ("function_call", "f"), ("observation", "o"),
            ("gpt", "a")]  # fmt: skip
    record = {"conversations": [{"from": who, "value": what} for who, what in talk]}
    roles = [role for role, _ in turns_of("sharegpt", record)]
    assert roles == [SYSTEM, USER, ASSISTANT, "tool", ASSISTANT]


def test_unknown_roles_and_turns_that_are_no_objects_are_wrong_type() -> None:
    assert reason_of("messages", {"messages": [{"role": "ghost", "content": "x"}]}) == "wrong_type"
    assert reason_of("messages", {"messages": ["x"]}) == "wrong_type"
    assert reason_of("messages", {"messages": []}) == "missing_field"
    assert reason_of("messages", {"messages": [{"role": "user"}]}) == "missing_field"
    parts = {"messages": [{"role": "user", "content": [{"type": "text"}]}]}
    assert reason_of("messages", parts) == "wrong_type"


def test_messages_that_say_more_than_role_and_content_stay_whole_in_meta() -> None:
    record = {
        "messages": [
            {"role": "user", "content": "q", "tool_calls": None},
            {"role": "assistant", "content": "a", "tool_calls": [{"id": 1}]},
        ],
        "tools": [{"name": "f"}],
    }
    content, meta = split_record(record, {}, FORMATS["messages"])
    assert len(content.turns) == 2
    assert meta == record
    record["messages"][1].pop("tool_calls")
    assert split_record(record, {}, FORMATS["messages"])[1] == {"tools": [{"name": "f"}]}


def test_prompt_and_completion_may_be_lists_of_messages() -> None:
    record = {
        "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}],
        "completion": [{"role": "assistant", "content": "a"}],
    }
    assert turns_of("prompt_completion", record) == [(SYSTEM, "s"), (USER, "q"), (ASSISTANT, "a")]
    assert reason_of("prompt_completion", {**record, "completion": "a"}) == "wrong_type"


@pytest.mark.parametrize(
    ("label", "text"), [(1, "1"), ("pos", "pos"), (True, "true"), (2.0, "2"), (-3, "-3")]
)
def test_labels_become_text(label: Any, text: str) -> None:
    assert FORMATS["text_label"].parse({"text": "x", "label": label}).label == text


def test_a_label_that_is_no_class_is_wrong_type() -> None:
    assert reason_of("text_label", {"text": "x", "label": 0.5}) == "wrong_type"


def test_the_majority_decides_and_a_tie_does_not_depend_on_the_order() -> None:
    alpaca, plain = GOOD["alpaca"], GOOD["plain_text"]
    assert detect([plain, alpaca, alpaca]).name == "alpaca"
    assert detect([alpaca, plain]) is detect([plain, alpaca])
    assert detect([{"odd": 1}, {"odd": 1}, plain]).name == "plain_text"


def test_an_extra_text_column_of_alpaca_is_meta() -> None:
    record = {**GOOD["alpaca"], "text": "the whole"}
    assert split_record(record, {}, detect([record]))[1] == {"text": "the whole"}


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "p", "chosen": "a", "rejected": "b"},
        {"conversations": [], "chosen": {}, "rejected": {}},
        {"messages": [], "label": True},
        {"prompt": "p", "completion": "c", "label": False},
        {"instruction": "i", "output": ["good", "bad"]},
        {"conversations": [], "kto_tag": True},
    ],
)
def test_preference_data_is_refused_in_words(record: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="preference data"):
        detect([record])


def test_classification_with_boolean_labels_is_no_preference_data() -> None:
    assert detect([{"text": "t", "label": True}]).name == "text_label"


def test_a_mapping_takes_the_chosen_answers_on_purpose() -> None:
    record = {"prompt": "p", "chosen": "a", "rejected": "b"}
    mapping = {"completion": "chosen"}
    content, meta = split_record(record, mapping, detect([record], mapping))
    assert content.turns[1].content == "a"
    assert meta == {"rejected": "b"}


def test_a_mapping_renames_and_what_it_hides_stays_in_meta() -> None:
    record = {"question": "q", "answer": "a", "prompt": "old", "n": 1}
    mapping = {"prompt": "question", "completion": "answer"}
    content, meta = split_record(record, mapping, detect([record], mapping))
    assert [turn.content for turn in content.turns] == ["q", "a"]
    assert meta == {"prompt": "old", "n": 1}


def test_a_mapping_chooses_among_the_formats_a_record_could_have() -> None:
    record = {**GOOD["messages"], "question": "q", "answer": "a"}
    assert detect([record]).name == "messages"
    mapping = {"prompt": "question", "completion": "answer"}
    assert detect([record], mapping).name == "prompt_completion"


def test_columns_may_be_swapped() -> None:
    record = {"prompt": "a", "completion": "q"}
    mapping = {"prompt": "completion", "completion": "prompt"}
    content, meta = split_record(record, mapping, detect([record], mapping))
    assert [turn.content for turn in content.turns] == ["q", "a"]
    assert meta == {}


def test_a_mapped_column_that_is_nowhere_is_named_with_a_guess() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'question'.*answer, question"):
        detect([{"question": "q", "answer": "a"}], {"prompt": "qestion", "completion": "answer"})


def test_a_mapped_field_that_is_nowhere_is_named_with_a_guess() -> None:
    with pytest.raises(UsageError, match="did you mean 'prompt'"):
        detect([{"question": "q"}], {"promt": "question"})


def test_mapped_fields_of_two_formats_are_refused() -> None:
    with pytest.raises(UsageError, match="no format has all"):
        detect([{"a": "q", "b": "c"}], {"prompt": "a", "text": "b"})


def test_unknown_columns_are_listed_with_what_to_type() -> None:
    with pytest.raises(UsageError, match="answer, question") as caught:
        detect([{"question": "q", "answer": "a"}])
    assert caught.value.hint and "--map" in caught.value.hint


@pytest.mark.parametrize("name", FORMATS)
def test_a_record_with_another_answer_parses_to_that_answer_and_nothing_else_changes(
    name: str,
) -> None:
    record, chosen = {**GOOD[name], "score": 3}, FORMATS[name]
    changed = answered_record(record, {}, chosen, "else")
    again = FORMATS["text_label" if name == "plain_text" else name].parse(changed)
    before = chosen.parse(record)
    assert again.turns == ((before.turns[0], Turn(ASSISTANT, "else")) if before.turns else ())
    assert (again.text, again.label) == (before.text, None if before.turns else "else")
    assert list(changed)[: len(record)] == list(record) and changed["score"] == 3
    assert record == {**GOOD[name], "score": 3}


def test_an_answer_is_added_where_the_assistant_had_not_spoken_yet() -> None:
    prompt = {"messages": [{"role": "user", "content": "hi"}]}
    found = answered_record(prompt, {}, FORMATS["messages"], "yo")
    assert found["messages"][1:] == [{"role": "assistant", "content": "yo"}]
    prompt = {"conversations": [{"from": "human", "value": "hi"}]}
    found = answered_record(prompt, {}, FORMATS["sharegpt"], "yo")
    assert found["conversations"][1:] == [{"from": "gpt", "value": "yo"}]
    chat = {"prompt": [{"role": "user", "content": "hi"}], "completion": [
        {"role": "assistant", "content": "old", "tool_calls": None}]}  # fmt: skip
    found = answered_record(chat, {}, FORMATS["prompt_completion"], "yo")
    assert found["completion"] == [{"role": "assistant", "content": "yo", "tool_calls": None}]


def test_answers_go_into_the_users_columns() -> None:
    record = {"question": "hi", "reply": "old", "completion": "mine"}
    mapping = {"prompt": "question", "completion": "reply"}
    found = answered_record(record, mapping, FORMATS["prompt_completion"], "yo")
    assert found == {"question": "hi", "reply": "yo", "completion": "mine"}


@pytest.mark.parametrize(
    ("own", "answer", "written"),
    [(1, "0", 0), (True, "false", False), (0.0, "1", 1.0), ("1", "0", "0"), (1, "n/a", "n/a"),
     (True, "maybe", "maybe"), (3, "-1", -1), (1, "01", "01")],
)  # fmt: skip
def test_a_label_stays_a_number_or_boolean_where_it_was_one(
    own: Any, answer: str, written: Any
) -> None:
    found = FORMATS["text_label"].answered({"text": "x", "label": own}, answer)["label"]
    assert found == written and type(found) is type(written)
