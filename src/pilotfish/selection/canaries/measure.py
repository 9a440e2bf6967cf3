"""Planted rows measured as the pool was: by the same model, in its format, lengths and batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.config import parse_method
from pilotfish.data import Pool
from pilotfish.engine.executors.launch import passes
from pilotfish.extras import need_torch
from pilotfish.flops import known, reading_flops
from pilotfish.methods import Selector, make
from pilotfish.methods.rankers.random import draws
from pilotfish.records import Example, Ints, Measured, Need, Ragged, RowFeatures
from pilotfish.scoring.cascade_rows import CASCADE, read_cascade_rows
from pilotfish.scoring.weak_model import weak_by_digest
from pilotfish.selection.canaries.attacks import canary_rows
from pilotfish.selection.candidates import Candidates
from pilotfish.selection.cascade import cheap_name
from pilotfish.store import Run

if TYPE_CHECKING:
    from pilotfish.models import Loaded

Counts = tuple[Ints, Ints]  # prompt and response tokens
_DRAWN_BY = 0x5EED_CA9A  # no seed that anybody types


@dataclass(frozen=True, eq=False)
class Canaries:
    """Rows of every attack, one after the other, with what each was made from."""

    attacks: Sequence[str]  # [m]
    drawn: Ints  # [m] pool indices
    rows: Sequence[Example]  # [m]

    def of(self, attack: str) -> Ints:
        """Which rows are of an attack."""
        return np.flatnonzero(np.array(self.attacks, dtype=object) == attack)


def canaries_of(pool: Pool, rows: int) -> Canaries:
    """The same rows whatever the order of the files."""
    drawn = np.argsort(-draws(pool.columns("id")["id"], _DRAWN_BY), kind="stable")[:rows]
    order = np.argsort(drawn)
    taken = dict(zip(drawn[order].tolist(), pool.take(drawn[order]), strict=True))
    made = canary_rows([taken[int(at)] for at in drawn])
    found = [
        (attack, int(at), row)
        for attack, each in made.items()
        for at, row in zip(drawn, each, strict=True)
        if row is not None
    ]
    attacks, origin, examples = zip(*found, strict=True) if found else ((), (), ())
    return Canaries(attacks, np.array(origin, dtype=np.int64), examples)


@dataclass(eq=False)
class CanaryScorer:
    """Reads rows with the weak models of a run, each loaded once; tells what that cost."""

    run: Run
    tokens: float = 0.0
    flops: float | None = 0.0
    _models: dict[tuple[str, str], "Loaded"] = field(default_factory=dict)

    def seen(
        self, rows: Sequence[Example], column: str, selector: Selector, precision: str
    ) -> RowFeatures:
        """What a method reads of rows [m], as it was read for a score column."""
        from pilotfish.engine.in_memory import InMemoryScorer

        facts = self.run.section("scores")[column]
        weak = self._model(facts["weak"], precision)
        budget = int(self.run.section("weak")["token_budget"])
        look = InMemoryScorer(
            weak, selector.needs, max_length=facts["max_length"], token_budget=budget
        )
        seen = look(rows)
        lengths = (seen.n_prompt_tokens + seen.n_response_tokens).repeat(passes(selector.needs))
        self.tokens += float(lengths.sum())
        flops = reading_flops(weak, lengths)
        self.flops = None if None in (flops, self.flops) else (self.flops or 0.0) + (flops or 0.0)
        return seen

    def counts(self, rows: Sequence[Example], known: int, stand: Counts) -> Counts:
        """Tokens of rows [m] as scores.parquet counts them.

        The first `known` rows are the pool's own, with the counts that `stand` there: of several
        ways the run's scores were read in, the one is taken that gives those.
        """
        ways = dict.fromkeys(self._ways())
        found = [self._counted(rows, *way) for way in ways]
        right = [sum(int((a[:known] == b).sum()) for a, b in zip(each, stand, strict=True))
                 for each in found]  # fmt: skip
        return found[int(np.argmax(right))]

    def spent(self) -> dict[str, float]:
        """Since this was asked last, for the ledger."""
        told = known(tokens=self.tokens, flops=self.flops)
        self.tokens, self.flops = 0.0, 0.0
        return told

    def _model(self, digest: str, precision: str) -> "Loaded":
        need_torch("measuring planted rows")
        if (digest, precision) not in self._models:
            self._models[digest, precision] = weak_by_digest(self.run, digest, precision=precision)
        return self._models[digest, precision]

    def _ways(self) -> list[tuple[str, int, Need]]:
        from pilotfish.engine.scorer import LENGTHS

        return [
            (facts["weak"], facts["max_length"], need)
            for facts in self.run.section("scores").values()
            for need in (make(parse_method(str(facts["method"]))).needs or (LENGTHS,))[:1]
        ]

    def _counted(self, rows: Sequence[Example], digest: str, max_length: int, need: Need) -> Counts:
        from pilotfish.tokenization import clamp_max_length, encode_needs

        weak = next((m for (name, _), m in self._models.items() if name == digest), None)
        weak = weak or self._model(digest, "fp32")
        limit = clamp_max_length(max_length, weak.window)
        encoded = encode_needs(rows, (need,), weak.tokenizer, limit)[need]
        prompt = np.array([row.n_prompt for row in encoded], dtype=np.int64)
        return prompt, np.array([row.n_response for row in encoded], dtype=np.int64)


def passed_cascade(
    reader: CanaryScorer, rows: Sequence[Example], column: str, selector: Selector
) -> NDArray[np.bool_]:
    """[m] whether a cascade would show each row to the intended model; all where there is none."""
    everything = np.ones(len(rows), dtype=bool)
    facts = reader.run.section("scores")[column]
    if CASCADE not in facts:
        return everything
    passing = read_cascade_rows(reader.run.store, facts["cascade"]["plan"])
    if passing is None or passing.cascade.everything:
        return everything
    cheap = cheap_name(column)
    precision = reader.run.section("scores")[cheap]["precision"]
    scores = selector.score(reader.seen(rows, cheap, selector, precision))
    low, high = passing.cascade.threshold
    return np.asarray(~np.isfinite(scores) | ((scores >= low) & (scores <= high)))


def pool_seen(rows: Candidates, column: str | None, selector: Selector) -> RowFeatures:
    """All that was measured of the whole pool, for a method that looks at all rows.

    Tokens as scores.parquet counts them, which is how those of planted rows are counted.
    """
    if column is None:
        return rows.seen()
    from pilotfish.engine.shard_files import load_features

    keys = rows.run.section("scores")[column]["keys"]
    named = {need: keys[need.name] for need in selector.needs}
    seen = load_features(rows.pool, named, rows.run.store, selector.needs[0])[0]
    parts = list(rows.need_counts("planting"))
    prompt, response = (np.concatenate(each) for each in zip(*parts, strict=True))
    return with_counts(seen, (prompt, response))


def with_counts(seen: RowFeatures, counts: Counts | None) -> RowFeatures:
    """The same with the tokens that scores.parquet counts."""
    if counts is None:
        return seen
    return replace(seen, n_prompt_tokens=counts[0], n_response_tokens=counts[1])


def unread(rows: Sequence[Example]) -> RowFeatures:
    """Rows that no model looks at."""
    none = np.zeros(len(rows), dtype=np.int64)
    return RowFeatures(np.array([row.id for row in rows], dtype=object), none, none)


def both(first: RowFeatures, second: RowFeatures) -> RowFeatures:
    """Rows [n] and then rows [m], as one pool."""
    measured = {
        need: Measured(
            np.concatenate([one.total, second[need].total]),
            np.concatenate([one.count, second[need].count]),
            np.concatenate([one.reason, second[need].reason]),
            _values(one.values, second[need].values),
        )
        for need, one in first.measured.items()
    }
    return RowFeatures(
        np.concatenate([first.ids, second.ids]),
        np.concatenate([first.n_prompt_tokens, second.n_prompt_tokens]),
        np.concatenate([first.n_response_tokens, second.n_response_tokens]),
        measured,
    )


def some(seen: RowFeatures, at: Ints) -> RowFeatures:
    """The rows `at` [k] of what was seen."""
    measured = {
        need: Measured(one.total[at], one.count[at], one.reason[at],
                       {name: _taken(value, at) for name, value in one.values.items()})
        for need, one in seen.measured.items()
    }  # fmt: skip
    return RowFeatures(seen.ids[at], seen.n_prompt_tokens[at], seen.n_response_tokens[at], measured)


def _values(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _joined(value, second[name]) for name, value in first.items()}


def _joined(one: Any, other: Any) -> Any:
    if not isinstance(one, Ragged):
        return np.concatenate([one, other])
    ends = other.offsets[1:] + one.offsets[-1]
    return Ragged(np.concatenate([one.flat, other.flat]), np.concatenate([one.offsets, ends]))


def _taken(value: Any, at: Ints) -> Any:
    if not isinstance(value, Ragged):
        return value[at]
    parts = [value[int(i)] for i in at]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return Ragged(np.concatenate([value.flat[:0], *parts]), offsets)
