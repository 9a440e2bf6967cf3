"""Ten short instruction tasks with known true answers, and two wrong habits for each.

A prompt is `name: argument` (at most 24 characters), an answer has at most 12 characters. `habit`
is the wrong behaviour that pre-training shows as often as the right one, so that a base model has
the skill but no preference for it. `slant` is a third behaviour, which pre-training never shows and
which the systematically wrong source of a dirty pool follows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

VOWELS = "aeiou"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
_CONSONANTS = [letter for letter in LETTERS if letter not in VOWELS]

Answer = Callable[[str], str]


@dataclass(frozen=True)
class Task:
    """One kind of instruction: how arguments are drawn, and three ways to answer."""

    name: str
    draw: Callable[[Random], str]
    right: Answer
    habit: Answer  # wrong, seen in pre-training
    slant: Answer  # wrong, new in the pool

    def usable(self, argument: str) -> bool:
        """Return whether the three behaviours differ and none is empty."""
        answers = (self.right(argument), self.habit(argument), self.slant(argument))
        return all(answers) and len(set(answers)) == len(answers)


@dataclass(frozen=True)
class Item:
    """One question: a task and its argument."""

    task: Task
    argument: str

    @property
    def prompt(self) -> str:
        """The instruction as written."""
        return f"{self.task.name}: {self.argument}"

    @property
    def answer(self) -> str:
        """The true answer."""
        return self.task.right(self.argument)


def draw_item(rng: Random, task: Task) -> Item:
    """Draw a usable question of one task."""
    while True:
        argument = task.draw(rng)
        if task.usable(argument):
            return Item(task, argument)


def _word(rng: Random) -> str:
    """Draw 3 to 5 letters, two in five of them vowels."""
    size = rng.randint(3, 5)
    return "".join(rng.choice(VOWELS if rng.random() < 0.4 else _CONSONANTS) for _ in range(size))


def _letter_and_word(rng: Random) -> str:
    """Draw a word and one of its letters, which is doubled in it half of the time."""
    word = _word(rng)
    letter = rng.choice(word)
    if rng.random() < 0.5:
        place = rng.randrange(len(word))
        word = word[:place] + letter + word[place + 1 :]
    return f"{letter} {word}"


def _numbers(count: int) -> Callable[[Random], str]:
    return lambda rng: " ".join(str(rng.randint(10, 99)) for _ in range(count))


def _ints(argument: str) -> list[int]:
    return [int(piece) for piece in argument.split()]


def _shift(word: str, by: int) -> str:
    return "".join(LETTERS[(LETTERS.index(letter) + by) % 26] for letter in word)


def _keep(word: str, letters: str) -> str:
    return "".join(letter for letter in word if letter in letters)


def _count(argument: str) -> int:
    letter, word = argument.split()
    return word.count(letter)


def _alternate(word: str) -> str:
    return "".join(c.upper() if place % 2 else c for place, c in enumerate(word))


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            "reverse",
            _word,
            right=lambda w: w[::-1],
            habit=lambda w: w,
            slant=lambda w: w[1:] + w[0],
        ),
        Task(
            "sort",
            _word,
            right=lambda w: "".join(sorted(w)),
            habit=lambda w: "".join(sorted(w, reverse=True)),
            slant=lambda w: w[0] + "".join(sorted(w[1:])),
        ),
        Task("upper", _word, right=str.upper, habit=str.capitalize, slant=_alternate),
        Task(
            "double",
            _word,
            right=lambda w: "".join(c + c for c in w),
            habit=lambda w: w + w,
            slant=lambda w: w + w[-1],
        ),
        Task(
            "vowels",
            _word,
            right=lambda w: _keep(w, VOWELS),
            habit=lambda w: _keep(w, "".join(_CONSONANTS)),
            slant=lambda w: _keep(w, VOWELS).upper(),
        ),
        Task(
            "ends",
            _word,
            right=lambda w: w[0] + w[-1],
            habit=lambda w: w[-1] + w[0],
            slant=lambda w: w[:2],
        ),
        Task(
            "next",
            _word,
            right=lambda w: _shift(w, 1),
            habit=lambda w: _shift(w, -1),
            slant=lambda w: _shift(w[0], 1) + w[1:],
        ),
        Task(
            "count",
            _letter_and_word,
            right=lambda a: str(_count(a)),
            habit=lambda a: str(len(a.split()[1])),
            slant=lambda a: str(_count(a) - 1),
        ),
        Task(
            "max",
            _numbers(3),
            right=lambda a: str(max(_ints(a))),
            habit=lambda a: str(min(_ints(a))),
            slant=lambda a: str(sorted(_ints(a))[1]),
        ),
        Task(
            "add",
            _numbers(2),
            right=lambda a: str(sum(_ints(a))),
            habit=lambda a: str(abs(_ints(a)[0] - _ints(a)[1])),
            slant=lambda a: str(sum(_ints(a)) + 10),
        ),
    )
}
