"""exact_match: is the greedy answer the expected one, to the letter?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilotfish.evaluation.items import UNBOUNDED, Item
from pilotfish.records import Example

if TYPE_CHECKING:
    from pilotfish.models import Loaded

ROOM = 8  # tokens beyond the longest expected answer: an end mark, or another way to cut the text


@dataclass(frozen=True)
class ExactMatch:
    """1 where the greedy answer equals the expected one, else 0. In {0, 1}, higher is better.

    Normalisation: outer whitespace is stripped on both sides, and nothing else; case, punctuation
    and inner spaces count. A row without an expected answer, or whose prompt leaves no room in the
    model's window for one, cannot be judged (value None).
    """

    name: str = "exact_match"
    higher_is_better: bool = True

    def items(self, loaded: "Loaded", examples: Sequence[Example]) -> list[Item]:
        """Greedy answers of every row, compared."""
        from pilotfish.engine.generate import generate
        from pilotfish.tokenization import encode_prompts

        room = answer_room(loaded, [example.response for example in examples])
        prompts = encode_prompts(examples, loaded.tokenizer, loaded.window or UNBOUNDED, room)
        outputs = generate(loaded, examples, max_new_tokens=room)
        return [
            self._item(example, output, asked=not prompt.reason)
            for example, output, prompt in zip(examples, outputs, prompts, strict=True)
        ]

    def _item(self, example: Example, output: str, *, asked: bool) -> Item:
        value = matches(output, example.response) if asked else None
        return Item(example.id, self.name, value, output if asked else None, example.response)


def matches(output: str, expected: str) -> float | None:
    """1 or 0; None without an expected answer."""
    wanted = expected.strip()
    return float(output.strip() == wanted) if wanted else None


def answer_room(loaded: "Loaded", expected: Sequence[str]) -> int:
    """Tokens to allow an answer: the longest expected one plus ROOM."""
    lengths = [
        len(loaded.tokenizer(t, add_special_tokens=False, verbose=False)["input_ids"])
        for t in expected
    ]
    return max(lengths, default=0) + ROOM
