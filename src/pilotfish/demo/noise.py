"""The kinds of noise of a pool row, and the rate of each in the dirty and in the clean pool.

The rates were fixed before the first training run and are never tuned to a result.
"""

from collections.abc import Callable, Mapping
from random import Random

from pilotfish.demo.tasks import LETTERS, TASKS, Item

DIRTY: dict[str, float] = {
    "systematic": 0.25,
    "wrong_answer": 0.10,
    "shuffled_pair": 0.08,
    "off_task": 0.06,
    "truncated": 0.05,
    "template_spam": 0.03,
    "near_duplicate": 0.03,
}
CLEAN: dict[str, float] = {}
POOLS: dict[str, Mapping[str, float]] = {"dirty": DIRTY, "clean": CLEAN}

Row = tuple[str, str]
"""(prompt, completion)"""
Noise = Callable[[Item, Item, Random], Row | None]
"""(the question, a clean row, rng) -> the noisy row; None where this question cannot have it."""

_SPAM = "Sure, done!"


def systematic(item: Item, donor: Item, rng: Random) -> Row | None:
    """Answer each task by its own wrong rule, which pre-training never showed: one bad source."""
    return item.prompt, item.task.slant(item.argument)


def wrong_answer(item: Item, donor: Item, rng: Random) -> Row | None:
    """Replace one character of the answer by another one of its kind: a slip."""
    answer = item.answer
    place = rng.randrange(len(answer))
    old = answer[place]
    kind = "0123456789" if old.isdigit() else LETTERS.upper() if old.isupper() else LETTERS
    new = rng.choice([char for char in kind if char != old])
    return item.prompt, answer[:place] + new + answer[place + 1 :]


def shuffled_pair(item: Item, donor: Item, rng: Random) -> Row | None:
    """Give the answer to another question."""
    return None if donor.answer == item.answer else (item.prompt, donor.answer)


def off_task(item: Item, donor: Item, rng: Random) -> Row | None:
    """Give the right answer to another task on the same words or numbers."""
    others = [task for task in TASKS.values() if task.draw is item.task.draw]
    reply = rng.choice(others).right(item.argument)
    return (item.prompt, reply) if reply and reply != item.answer else None


def truncated(item: Item, donor: Item, rng: Random) -> Row | None:
    """Cut the answer before its end."""
    answer = item.answer
    return (item.prompt, answer[: rng.randint(1, len(answer) - 1)]) if len(answer) > 1 else None


def template_spam(item: Item, donor: Item, rng: Random) -> Row | None:
    """Give a polite phrase and no answer, the same in every such row."""
    return item.prompt, _SPAM


def near_duplicate(item: Item, donor: Item, rng: Random) -> Row | None:
    """Repeat a clean row with a slightly different prompt; the answer stays right."""
    name, argument = donor.task.name, donor.argument
    forms = (
        f"{name.capitalize()}: {argument}",
        f"{name} : {argument}",
        f"{name}:  {argument}",
        f"{name}: {argument}.",
    )
    return rng.choice(forms), donor.answer


NOISES: dict[str, Noise] = {
    "systematic": systematic,
    "wrong_answer": wrong_answer,
    "shuffled_pair": shuffled_pair,
    "off_task": off_task,
    "truncated": truncated,
    "template_spam": template_spam,
    "near_duplicate": near_duplicate,
}
