"""A short probe: the run's own code on a few of its rows, timed, on the machine it will run on.

Nothing is kept: models are loaded, a few batches are scored, a few steps taken, a few rows judged.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pilotfish.planning.throughput import Peak
from pilotfish.records import Example, Ints, Need

if TYPE_CHECKING:
    from pilotfish.engine.forward import Forward
    from pilotfish.models import Loaded

WARM_ROWS = 4  # the shortest ones, first of all
FIRST_TOKENS = 128


@dataclass
class Watch:
    """Seconds that the probe may take in all, and what was seen by the way."""

    seconds: float
    begun: float = field(default_factory=time.monotonic)
    peak: dict[str, int] = field(default_factory=dict)
    peak_of: str = ""

    @property
    def spent(self) -> float:
        """Seconds since the probe began."""
        return time.monotonic() - self.begun

    def share(self, part: float) -> float:
        """That part of what is left, at least a tenth of a second."""
        return max(0.1, part * (self.seconds - self.spent))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Remember the most memory held inside, under a stage's name."""
        peak = Peak()
        with peak.watching():
            yield
        if peak.bytes:
            self.peak[name] = max(peak.bytes, self.peak.get(name, 0))
            self.peak_of = peak.of


def timed(work: Any) -> tuple[float, Any]:
    """Seconds and result of a call, the device's queue drained."""
    import torch

    start = time.perf_counter()
    found = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, found


@dataclass(frozen=True)
class Read:
    """What a probe of reading found."""

    start: float  # seconds of the first batch, beyond those of any other
    encode: float  # seconds per row
    token: float  # seconds per token of a forward pass
    tokens: int  # that the timed passes read


def read_some(
    loaded: "Loaded",
    rows: Sequence[Example],
    needs: Sequence[Need],
    *,
    max_length: int,
    token_budget: int,
    seconds: float,
) -> Read:
    """Measure some of the rows as the scorer of shards does, spread over all their lengths."""
    from pilotfish.engine.forward import Forward
    from pilotfish.engine.scorer import LENGTHS, by_pass
    from pilotfish.tokenization import clamp_max_length, encode_needs

    limit = clamp_max_length(max_length, loaded.window)
    cut, encoded = timed(lambda: encode_needs(rows, needs, loaded.tokenizer, limit))
    forward, start, spent, tokens = Forward(loaded), 0.0, 0.0, 0
    passes = [asked for asked in by_pass(encoded) if LENGTHS not in asked]
    for asked in passes:
        some = _Passes(asked, forward, token_budget)
        if not len(some.order):
            continue
        first, (once, read) = some.run(some.order[-WARM_ROWS:]), some.timed(seconds / len(passes))
        start += max(0.0, first[0] - first[1] * once / max(read, 1))
        spent, tokens = spent + once, tokens + read
    return Read(start, cut / max(len(rows), 1), spent / max(tokens, 1), tokens)


class _Passes:
    """The rows of one forward pass, each distinct text once, longest first."""

    def __init__(self, asked: Mapping[Need, Sequence[Any]], forward: "Forward", budget: int):
        from pilotfish.engine.batch_plan import distinct

        self._asked, self._forward, self._budget = asked, forward, budget
        rows = next(iter(asked.values()))
        places = np.array([i for i, row in enumerate(rows) if len(row.read.ids)], dtype=np.int64)
        first = places[distinct([rows[int(i)] for i in places]).first] if len(places) else places
        self._lengths = {int(i): len(rows[int(i)].read.ids) for i in first}
        self.order: Ints = np.array(sorted(self._lengths, key=lambda i: -self._lengths[i]))

    def spread(self, tokens: int) -> Ints:
        """Rows of all lengths with about so many tokens; all of them where they hold fewer."""
        total = sum(self._lengths.values())
        count = max(1, round(len(self.order) * min(1.0, tokens / max(total, 1))))
        return self.order[np.linspace(0, len(self.order) - 1, count).round().astype(np.int64)]

    def timed(self, seconds: float) -> tuple[float, int]:
        """Seconds and tokens of more and more rows, until about so much time has gone by."""
        tokens, begun = FIRST_TOKENS, time.monotonic()
        while True:
            once, read = self.run(self.spread(tokens))
            left = seconds - (time.monotonic() - begun)
            tokens = int(0.8 * read * left / max(once, 1e-6))
            if tokens < 2 * read or read >= sum(self._lengths.values()):
                return once, read

    def run(self, chosen: Ints) -> tuple[float, int]:
        """Seconds, and tokens read."""
        from pilotfish.engine.scorer import run_pass

        asked = {need: [rows[int(i)] for i in chosen] for need, rows in self._asked.items()}
        spent, _ = timed(lambda: run_pass(asked, self._forward, self._budget))
        return spent, sum(self._lengths[int(i)] for i in chosen)
