"""Greedy answers, and the NLL of known answers."""

from typing import Any

import numpy as np
import pytest
import torch

from pilotfish.engine.generate import generate
from pilotfish.engine.likelihood import choice_nll, response_nll
from pilotfish.models import Loaded, load
from pilotfish.records import Example
from pilotfish.tokenization import encode_prompts, end_ids
from tests.engine.shapes import build
from tests.tiny.models import tiny_llama
from tests.tiny.pools import asked

PROMPTS = ["a", "hello", "what is it then?", "count: 1 2 3", "hello", "z" * 30]
EXAMPLES = [asked(str(i), prompt, "ok") for i, prompt in enumerate(PROMPTS)]


@pytest.fixture(scope="module", params=["gpt2", "llama", "opt"])
def loaded(request: pytest.FixtureRequest) -> Loaded:
    return build(request.param, seed=2)


def slow_greedy(loaded: Loaded, example: Example, room: int) -> str:
    """One prompt, no cache, no padding: take the likeliest token until an end."""
    [prompt] = encode_prompts([example], loaded.tokenizer, 10_000, room)
    ids = prompt.ids.tolist()
    for _ in range(room):
        with torch.no_grad():
            logits = loaded.model(input_ids=torch.tensor([ids])).logits[0, -1]
        ids.append(int(logits.argmax()))
        if ids[-1] in end_ids(loaded.tokenizer):
            ids.pop()
            break
    fresh = ids[len(prompt.ids) :]
    return str(loaded.tokenizer.decode(fresh, skip_special_tokens=True))


def test_answers_are_those_of_one_prompt_at_a_time(loaded: Loaded) -> None:
    expected = [slow_greedy(loaded, example, 12) for example in EXAMPLES]
    assert len(set(expected)) > 2
    assert generate(loaded, EXAMPLES, max_new_tokens=12) == expected
    assert generate(loaded, EXAMPLES, max_new_tokens=12, batch_tokens=1) == expected


def test_an_answer_ends_before_the_end_token() -> None:
    loaded = build("llama", seed=2)
    [prompt] = encode_prompts(EXAMPLES[1:2], loaded.tokenizer, 128, 8)
    ids = torch.from_numpy(prompt.ids.astype(np.int64))[None]
    with torch.no_grad():
        ranked = loaded.model(input_ids=ids).logits[0, -1].argsort(descending=True)
    # make a byte the likeliest first token, then call that byte the end
    byte = next(int(i) for i in ranked if i < 256)
    head = loaded.model.lm_head.weight.data
    head[[byte, int(ranked[0])]] = head[[int(ranked[0]), byte]]
    assert generate(loaded, EXAMPLES[1:2], max_new_tokens=8) != [""]
    # the plain template writes no EOS into a prompt, so only the stopping rule changes
    loaded.tokenizer.eos_token = loaded.tokenizer.convert_ids_to_tokens(byte)
    assert generate(loaded, EXAMPLES[1:2], max_new_tokens=8) == [""]


def test_settings_of_the_model_do_not_leak_into_greedy(loaded: Loaded) -> None:
    expected = generate(loaded, EXAMPLES, max_new_tokens=6)
    settings = loaded.model.generation_config
    settings.do_sample, settings.temperature, settings.top_k = True, 5.0, 2
    settings.repetition_penalty, settings.no_repeat_ngram_size = 9.0, 1
    assert generate(loaded, EXAMPLES, max_new_tokens=6) == expected


def test_rows_without_a_usable_prompt_get_an_empty_answer() -> None:
    loaded = build("llama")
    rows = [asked("a", "x" * 125, "y"), Example("b", "s", 0, text="plain text"), EXAMPLES[0]]
    long, plain, short = generate(loaded, rows, max_new_tokens=4)
    assert (long, plain) == ("", "") and short != ""


def nats_of(loaded: Any, prompt: list[int], reply: list[int]) -> float:
    ids = torch.tensor([prompt + reply])
    with torch.no_grad():
        logits = loaded.model(input_ids=ids).logits[0].double()
    chances = torch.log_softmax(logits, -1)
    return -sum(float(chances[len(prompt) + i - 1, token]) for i, token in enumerate(reply))


def test_responses_have_the_nll_of_the_plain_model(loaded: Loaded) -> None:
    examples = [asked("a", "hello", "you"), asked("b", "a", "x"), asked("c", "q", "")]
    found = response_nll(loaded, examples, max_length=64)
    assert found.reason.tolist() == ["", "", "empty_response"]
    assert found.count.tolist() == [3, 1, 0]  # the first token counts: the prompt predicts it
    cut = loaded.tokenizer
    for index, example in enumerate(examples[:2]):
        expected = nats_of(
            loaded,
            cut(example.turns[0].content + "\n\n").input_ids,
            cut(example.response).input_ids,
        )
        assert found.total[index] == pytest.approx(expected, abs=1e-4)
    assert np.isnan(found.total[2])


def test_choices_cost_their_tokens_and_their_end(loaded: Loaded) -> None:
    cut = loaded.tokenizer
    film = Example("a", "s", 0, text="good film", label="yes")
    yes_no, single = choice_nll(loaded, [film, EXAMPLES[0]], [["yes", "no"], ["ok"]], max_length=64)
    prompt = cut("good film\n\n").input_ids
    for index, label in enumerate(["yes", "no"]):
        reply = [*cut(label).input_ids, cut.eos_token_id]
        assert yes_no.total[index] == pytest.approx(nats_of(loaded, prompt, reply), abs=1e-4)
    assert yes_no.count.tolist() == [4, 3] and single.count.tolist() == [3]


def test_a_choice_that_does_not_fit_whole_has_no_number() -> None:
    [found] = choice_nll(build("llama"), EXAMPLES[:1], [["ok", "o" * 99]], max_length=20)
    assert found.reason.tolist() == ["", "prompt_over_limit"]
    assert choice_nll(build("llama"), [], [], max_length=20) == []


def test_a_chat_model_reads_its_template(tmp_path: Any) -> None:
    loaded = load(str(tiny_llama(tmp_path, bos=True, chat=True)), device="cpu")
    assert generate(loaded, EXAMPLES, max_new_tokens=3) == [
        slow_greedy(loaded, example, 3) for example in EXAMPLES
    ]
