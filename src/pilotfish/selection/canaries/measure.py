"""Score canaries as the pool was scored: the same model, number format, lengths and batches."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.config import parse_method
from pilotfish.data import Pool
from pilotfish.engine.executors.launch import passes
from pilotfish.errors import need_torch
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

Counts = tuple[Ints, Ints]  # [m] prompt tokens, [m] response tokens
_SEED = 0x5EED_CA9A  # of the draw of rows; no seed that a user is likely to choose


@dataclass(frozen=True, eq=False)
class Canaries:
    """The rows of every attack, one attack after the other."""

    attacks: Sequence[str]  # [m]
    drawn: Ints  # [m] pool index of the row that each was made from
    rows: Sequence[Example]  # [m]

    def of(self, attack: str) -> Ints:
        """Return the positions of an attack's rows."""
        return np.flatnonzero(np.array(self.attacks, dtype=object) == attack)


def canaries_of(pool: Pool, rows: int) -> Canaries:
    """Draw rows of a pool and apply every attack to them; the order of the files has no effect.

    Args:
        pool: The pool.
        rows: How many rows to draw.
    """
    drawn = np.argsort(-draws(pool.columns("id")["id"], _SEED), kind="stable")[:rows]
    order = np.argsort(drawn)
    examples = dict(zip(drawn[order].tolist(), pool.take(drawn[order]), strict=True))
    made = canary_rows([examples[int(at)] for at in drawn])
    found = [
        (attack, int(at), row)
        for attack, changed in made.items()
        for at, row in zip(drawn, changed, strict=True)
        if row is not None
    ]
    attacks, origin, canaries = zip(*found, strict=True) if found else ((), (), ())
    return Canaries(attacks, np.array(origin, dtype=np.int64), canaries)


@dataclass(eq=False)
class CanaryScorer:
    """Scores rows with the weak models of a run; every model is loaded once, every cost counted."""

    run: Run
    tokens: float = 0.0
    flops: float | None = 0.0
    _models: dict[tuple[str, str], "Loaded"] = field(default_factory=dict)

    def features(
        self, rows: Sequence[Example], column: str, selector: Selector, precision: str
    ) -> RowFeatures:
        """Measure the features of rows as they were measured for a score column.

        Args:
            rows: [m] rows.
            column: The score column, which names the weak model and the maximum length.
            selector: The method, which names the features.
            precision: The number format of the forward passes.
        """
        from pilotfish.engine.in_memory import InMemoryScorer

        facts = self.run.section("scores")[column]
        weak = self._model(facts["weak"], precision)
        budget = int(self.run.section("weak")["token_budget"])
        scorer = InMemoryScorer(
            weak, selector.needs, max_length=facts["max_length"], token_budget=budget
        )
        seen = scorer(rows)
        lengths = (seen.n_prompt_tokens + seen.n_response_tokens).repeat(passes(selector.needs))
        self.tokens += float(lengths.sum())
        flops = reading_flops(weak, lengths)
        self.flops = None if None in (flops, self.flops) else (self.flops or 0.0) + (flops or 0.0)
        return seen

    def counts(self, rows: Sequence[Example], known: int, recorded: Counts) -> Counts:
        """Count the tokens of rows as scores.parquet does.

        The scores of a run may come from several models and lengths; the counts are those of the
        one that gives the recorded counts.

        Args:
            rows: [m] rows.
            known: How many of the first rows are unchanged rows of the pool.
            recorded: [known] prompt and response tokens of those in scores.parquet.
        """
        from pilotfish.engine.scorer import LENGTHS

        encodings = dict.fromkeys(
            (facts["weak"], facts["max_length"], need)
            for facts in self.run.section("scores").values()
            for need in (make(parse_method(str(facts["method"]))).needs or (LENGTHS,))[:1]
        )
        found = [self._count(rows, *encoding) for encoding in encodings]
        equal = [
            sum(int((a[:known] == b).sum()) for a, b in zip(counts, recorded, strict=True))
            for counts in found
        ]
        return found[int(np.argmax(equal))]

    def cost(self) -> dict[str, float]:
        """Return the tokens and FLOPs since the last call."""
        found = known(tokens=self.tokens, flops=self.flops)
        self.tokens, self.flops = 0.0, 0.0
        return found

    def _model(self, digest: str, precision: str) -> "Loaded":
        need_torch("measuring planted rows")
        if (digest, precision) not in self._models:
            self._models[digest, precision] = weak_by_digest(self.run, digest, precision=precision)
        return self._models[digest, precision]

    def _count(self, rows: Sequence[Example], digest: str, max_length: int, need: Need) -> Counts:
        from pilotfish.tokenization import clamp_max_length, encode_needs

        weak = next((m for (name, _), m in self._models.items() if name == digest), None)
        weak = weak or self._model(digest, "fp32")
        limit = clamp_max_length(max_length, weak.window)
        encoded = encode_needs(rows, (need,), weak.tokenizer, limit)[need]
        prompt = np.array([row.n_prompt for row in encoded], dtype=np.int64)
        return prompt, np.array([row.n_response for row in encoded], dtype=np.int64)


def passed_cascade(
    scorer: CanaryScorer, rows: Sequence[Example], column: str, selector: Selector
) -> NDArray[np.bool_]:
    """Return [m] whether a cascade would pass each row on to the intended model.

    Args:
        scorer: Scores the rows with the cheaper model of the cascade.
        rows: [m] rows.
        column: The score column; without a cascade, all rows pass.
        selector: The method.
    """
    facts = scorer.run.section("scores")[column]
    plan = None
    if CASCADE in facts:
        plan = read_cascade_rows(scorer.run.store, facts["cascade"]["plan"])
    if plan is None or plan.cascade.everything:
        return np.ones(len(rows), dtype=bool)
    cheap = cheap_name(column)
    precision = scorer.run.section("scores")[cheap]["precision"]
    scores = selector.score(scorer.features(rows, cheap, selector, precision))
    low, high = plan.cascade.threshold
    return np.asarray(~np.isfinite(scores) | ((scores >= low) & (scores <= high)))


def pool_features(rows: Candidates, column: str | None, selector: Selector) -> RowFeatures:
    """Read the stored features of the whole pool, for a method that scores all rows together.

    Token counts are those of scores.parquet, as for the canaries.
    """
    if column is None:
        return rows.features()
    from pilotfish.engine.shard_files import load_features

    keys = rows.run.section("scores")[column]["keys"]
    named = {need: keys[need.name] for need in selector.needs}
    seen = load_features(rows.pool, named, rows.run.store, selector.needs[0])[0]
    shards = rows.need_counts("measuring planted rows")
    prompt, response = (np.concatenate(each) for each in zip(*shards, strict=True))
    return with_counts(seen, (prompt, response))


def with_counts(seen: RowFeatures, counts: Counts | None) -> RowFeatures:
    """Return the features with other token counts, or unchanged for None."""
    if counts is None:
        return seen
    return replace(seen, n_prompt_tokens=counts[0], n_response_tokens=counts[1])


def concatenate(first: RowFeatures, second: RowFeatures) -> RowFeatures:
    """Return the features of rows [n] followed by those of rows [m]."""

    def joined(one: Any, other: Any) -> Any:
        if not isinstance(one, Ragged):
            return np.concatenate([one, other])
        ends = other.offsets[1:] + one.offsets[-1]
        return Ragged(np.concatenate([one.flat, other.flat]), np.concatenate([one.offsets, ends]))

    measured = {
        need: Measured(
            np.concatenate([one.total, second[need].total]),
            np.concatenate([one.count, second[need].count]),
            np.concatenate([one.reason, second[need].reason]),
            {name: joined(value, second[need].values[name]) for name, value in one.values.items()},
        )
        for need, one in first.measured.items()
    }
    return RowFeatures(
        np.concatenate([first.ids, second.ids]),
        np.concatenate([first.n_prompt_tokens, second.n_prompt_tokens]),
        np.concatenate([first.n_response_tokens, second.n_response_tokens]),
        measured,
    )


def take_rows(seen: RowFeatures, at: Ints) -> RowFeatures:
    """Return the features of the rows at positions `at` [k]."""

    def taken(value: Any) -> Any:
        if not isinstance(value, Ragged):
            return value[at]
        parts = [value[int(i)] for i in at]
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
        return Ragged(np.concatenate([value.flat[:0], *parts]), offsets.astype(np.int64))

    measured = {
        need: Measured(
            one.total[at],
            one.count[at],
            one.reason[at],
            {name: taken(value) for name, value in one.values.items()},
        )
        for need, one in seen.measured.items()
    }
    return RowFeatures(seen.ids[at], seen.n_prompt_tokens[at], seen.n_response_tokens[at], measured)
