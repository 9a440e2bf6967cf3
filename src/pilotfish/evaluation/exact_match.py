"""exact_match: is the greedy answer exactly the expected one?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilotfish.evaluation.items import UNBOUNDED, Item
from pilotfish.records import Example

if TYPE_CHECKING:
    from pilotfish.models import Loaded

ROOM = 8  # tokens beyond the longest expected answer: an end mark, or another tokenisation


@dataclass(frozen=True)
class ExactMatch:
    """1 where the greedy answer equals the expected one, else 0. In {0, 1}, higher is better.

    Outer whitespace is stripped on both sides, and nothing else: case, punctuation and inner
    spaces count. A row has the value None where it has no expected answer, or its prompt leaves no
    room for one in the model's window.
    """

    name: str = "exact_match"
    higher_is_better: bool = True

    def items(self, loaded: "Loaded", examples: Sequence[Example]) -> list[Item]:
        """Return one item per row, from the model's greedy answer."""
        from pilotfish.engine.generate import generate
        from pilotfish.tokenization import encode_prompts

        room = answer_room(loaded, [example.response for example in examples])
        prompts = encode_prompts(examples, loaded.tokenizer, loaded.window or UNBOUNDED, room)
        outputs = generate(loaded, examples, max_new_tokens=room)
        items = []
        for example, prompt, output in zip(examples, prompts, outputs, strict=True):
            answer = None if prompt.reason else output
            value = None if answer is None else matches(answer, example.response)
            items.append(Item(example.id, self.name, value, answer, example.response))
        return items


def matches(output: str, expected: str) -> float | None:
    """Return 1.0 or 0.0; None without an expected answer."""
    wanted = expected.strip()
    return float(output.strip() == wanted) if wanted else None


def answer_room(loaded: "Loaded", expected: Sequence[str]) -> int:
    """Return how many tokens an answer may have: those of the longest expected one, plus ROOM."""
    lengths = [
        len(loaded.tokenizer(t, add_special_tokens=False, verbose=False)["input_ids"])
        for t in expected
    ]
    return max(lengths, default=0) + ROOM
