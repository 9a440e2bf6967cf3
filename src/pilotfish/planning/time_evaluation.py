"""A few rows judged as a run judges them, timed, and what all of them will take."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pilotfish.planning.throughput import Answering, Pace
from pilotfish.planning.time_scoring import timed
from pilotfish.records import Example, Ints

if TYPE_CHECKING:
    from pilotfish.models import Loaded

FRESH = 8  # tokens written to time one
GROWTH = 8  # times as many rows in the next batch


def judge_some(
    loaded: "Loaded", load: float, rows: Sequence[Example], metric: str, *, seconds: float
) -> Answering:
    """What judging `rows` by this metric takes, from a few of them."""
    from pilotfish.evaluation.exact_match import answer_room

    if metric == "exact_match":
        room = answer_room(loaded, [row.response for row in rows])
        return answer_some(loaded, load, rows, room, seconds=seconds)
    from pilotfish.evaluation import METRICS

    tokens = _lengths(loaded, rows)
    judge = METRICS[metric]
    order = np.argsort(tokens, kind="stable")

    def judged(chosen: Ints) -> tuple[float, float]:
        """Tokens of those rows, and seconds."""
        spent, _ = timed(lambda: judge.items(loaded, [rows[int(i)] for i in chosen]))
        return float(tokens[chosen].sum()), spent

    begun = time.monotonic()
    judged(order[:1])  # what is done once for any model
    few, chosen = judged(order[:1]), order[len(order) // 2 :][:1]
    some = judged(chosen)
    left = seconds - (time.monotonic() - begun)
    count = int(min(len(rows), left / max(some[1], 1e-6)))
    if count > 1:
        some = judged(_spread(order, count))
    pace = _line(*few, *some)
    whole = pace(float(tokens.sum()))
    return Answering(load, whole, whole, float(tokens.sum()), 0.0)


def _spread(order: Ints, count: int) -> Ints:
    return order[np.unique(np.linspace(0, len(order) - 1, count).round().astype(np.int64))]


def _lengths(loaded: "Loaded", rows: Sequence[Example]) -> Ints:
    from pilotfish.records import Need
    from pilotfish.tokenization import encode_scoring

    limit = loaded.window or 2**31
    found = encode_scoring(rows, Need("nll"), loaded.tokenizer, limit)
    return np.array([row.n_prompt + row.n_response for row in found], dtype=np.int64)


def answer_some(
    loaded: "Loaded",
    load: float,
    rows: Sequence[Example],
    room: int,
    *,
    seconds: float,
    times: float = 1.0,
) -> Answering:
    """What greedy answers to `rows` take; `times`: how many such sets of rows there are."""
    from pilotfish.engine.batch_plan import plan
    from pilotfish.engine.generate import encode_batch, generation_budget

    cut, asked = timed(lambda: encode_batch(loaded, rows, room))
    lengths = [len(ids) for ids in asked.ids]
    if not lengths:
        return Answering(load, cut, cut, 0.0, 0.0)
    budget = generation_budget(loaded.device)
    batches = plan([n + room for n in lengths], budget, tie=asked.found.key)
    pace = _Writing(loaded, asked.ids, room).pace(max(batches, key=len), seconds)
    ends = _answer_lengths(loaded, rows, asked.places, asked.found.kind, room)
    trained = untrained = fresh = 0.0
    for batch in batches:
        read = pace.read(len(batch) * max(lengths[i] for i in batch))
        last = int(min(room, max(ends[i] for i in batch) + 1))
        trained += read + last * pace.write(len(batch))
        untrained += read + pace.longest * pace.write(len(batch))
        fresh += last * len(batch)
    prompt = float(sum(lengths))
    both = (times * (2 * cut + trained), times * (2 * cut + untrained))  # a metric cuts them twice
    return Answering(load, *both, times * prompt, times * fresh)


def _answer_lengths(
    loaded: "Loaded", rows: Sequence[Example], places: Sequence[int], kind: Ints, room: int
) -> Ints:
    """[u] tokens of the expected answer to each distinct prompt."""
    texts = [rows[place].response for place in places]
    found = loaded.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    ends = np.zeros(int(kind.max()) + 1, dtype=np.int64)
    for each, ids in zip(kind, found, strict=True):
        ends[each] = max(ends[each], min(len(ids), room))
    return ends


@dataclass(frozen=True)
class _Pace:
    read: Pace  # of padded prompt tokens in a batch
    write: Pace  # of rows in a batch: seconds per token written
    longest: int  # tokens the model goes on for, as it is


@dataclass(frozen=True)
class _Writing:
    """Prompts of one model, answered a few at a time."""

    loaded: "Loaded"
    prompts: Sequence[NDArray[np.int32]]
    room: int

    def pace(self, batch: Ints, seconds: float) -> _Pace:
        """From a small batch, and larger and larger ones as far as time reaches."""
        fresh, begun = max(2, min(self.room, FRESH)), time.monotonic()
        small = _spread(batch, 2)
        self._write(small, fresh)  # first kernels
        few = many = self._both(small, fresh)
        large, left = small, seconds - (time.monotonic() - begun)
        while len(large) < len(batch) and 4 * fresh * (many[0] + many[1]) < left:
            large = _spread(batch, min(GROWTH * len(large), len(batch)))
            many = self._both(large, fresh)
            left = seconds - (time.monotonic() - begun)
        longest = self._longest(large, many, left)
        if len(large) < 2 * len(small):
            read, written = _through(self._tokens(small), few[0]), _through(len(small), few[1])
            return _Pace(read, written, longest)
        read = _line(self._tokens(small), few[0], self._tokens(large), many[0])
        return _Pace(read, _line(len(small), few[1], len(large), many[1]), longest)

    def _longest(self, chosen: Ints, pace: tuple[float, float], seconds: float) -> int:
        """How long the longest answer gets before the model ends it; all its room if unknown."""
        if pace[0] + self.room * pace[1] > seconds:
            return self.room
        return self._write(chosen, self.room)[1]

    def _both(self, chosen: Ints, fresh: int) -> tuple[float, float]:
        """Seconds before the second token, and of each one after it: the better of two."""
        once = min(self._write(chosen, 1)[0] for _ in range(2))
        spent, written = min(self._write(chosen, fresh) for _ in range(2))
        each = max(spent - once, 1e-6) / max(written - 1, 1)
        return max(once - each, 0.0), each

    def _tokens(self, chosen: Ints) -> int:
        return len(chosen) * max(len(self.prompts[int(i)]) for i in chosen)

    def _write(self, chosen: Ints, fresh: int) -> tuple[float, int]:
        """Seconds, and tokens that the longest answer got."""
        from pilotfish.engine.generate import ConfidenceObserver, decode

        observer = ConfidenceObserver()
        prompts = [self.prompts[int(i)] for i in chosen]
        keys = [str(i).encode() for i in chosen]
        spent, _ = timed(lambda: decode(
            self.loaded, prompts, keys, observer, room=fresh, batch_tokens=2**40,
        ))  # fmt: skip
        return spent, len(observer.chances)


def _through(x: float, y: float) -> Pace:
    return Pace(0.0, y / max(x, 1))


def _line(x: float, a: float, y: float, b: float) -> Pace:
    """Through two points, neither part below zero, and right at the larger one."""
    slope = float(np.clip((b - a) / max(y - x, 1), 0.0, b / max(y, 1)))
    return Pace(b - slope * y, slope)
