"""What a selection is made from: the pool's rows and, where the run was scored, its columns."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pilotfish.config import Method, parse_method
from pilotfish.errors import UsageError
from pilotfish.flows.reading import pool_of
from pilotfish.pickers import tie_rank
from pilotfish.pool import Pool
from pilotfish.records import Floats, Ints, Seen, Texts
from pilotfish.selectors import SELECTORS, Selector, make, same_scores
from pilotfish.selectors.protocol import NONFINITE
from pilotfish.store import Run


@dataclass(frozen=True, eq=False)
class Scored:
    """One score per row, and a reason where there is none."""

    column: str | None  # name in scores.parquet; None where computed on the spot
    values: Floats  # [n] nan where unscorable
    why: Texts  # [n] "" where scored


@dataclass(frozen=True, eq=False)
class Candidates:
    """Every row of the pool in pool order, and how to reach what was measured of it."""

    run: Run
    pool: Pool
    id: Texts  # [n]
    source: Texts  # [n]
    row: Ints  # [n]
    digest: Texts  # [n]

    def __len__(self) -> int:
        return len(self.id)

    @cached_property
    def tie(self) -> Ints:
        """[n] order of rows with equal scores."""
        return tie_rank(self.digest, self.id)

    @cached_property
    def _place(self) -> Ints | None:
        """[n] line in scores.parquet of each pool row; None where the run has no scores."""
        if self.run.store.read_json("scores.json") is None:
            return None
        manifest = self.run.store.require("scores.json")
        ids = self._read("id")
        lines = {id: line for line, id in enumerate(ids)}
        if manifest.get("pool") != self.pool.fingerprint or set(lines) != set(self.id):
            raise UsageError(
                f"the scores in {self.run.root} are of another pool",
                hint=f"pilotfish score {self.run.root} --weak MODEL --method METHOD --force",
            )
        return np.fromiter((lines[id] for id in self.id), dtype=np.int64, count=len(self))

    def _read(self, name: str) -> list[Any]:
        with pq.ParquetFile(self.run.store.path("scores.parquet")) as file:
            return list(file.read(columns=[name]).column(name).to_pylist())

    def _column(self, name: str) -> Texts:
        """[n] one column of scores.parquet in pool order, nulls as None."""
        assert self._place is not None
        values = np.empty(len(self), dtype=object)
        values[:] = self._read(name)
        return values[self._place]

    @cached_property
    def counts(self) -> tuple[Ints, Ints] | None:
        """Prompt and response tokens of every row; None where the run has no scores."""
        if self._place is None:
            return None
        return (
            self._column("n_prompt_tokens").astype(np.int64),
            self._column("n_response_tokens").astype(np.int64),
        )

    @property
    def tokens(self) -> Ints | None:
        """[n] tokens of each row as the weak model read it."""
        return None if self.counts is None else self.counts[0] + self.counts[1]

    def need_counts(self, what: str) -> tuple[Ints, Ints]:
        """The token counts, or the missing step and its command."""
        if self.counts is None:
            raise UsageError(
                f"{what} needs token counts, which {self.run.root} does not hold yet",
                hint=f"pilotfish score {self.run.root} --weak MODEL --method METHOD "
                f"--out {self.run.root}",
            )
        return self.counts

    def scored(self, name: str) -> Scored:
        """One score column. A value that is no number is unscorable whatever its status says."""
        if self._place is None or name not in self.run.section("scores"):
            raise no_such_score(self.run, name)
        raw = self._column(name)
        values = np.array([np.nan if v is None else v for v in raw], dtype=np.float64)
        values[(self._column(f"{name}_status") != "ok") | ~np.isfinite(values)] = np.nan
        told = [NONFINITE if why is None else why for why in self._column(f"{name}_reason")]
        why = np.where(np.isnan(values), np.array(told, dtype=object), "")
        return Scored(name, values, why)

    def score_now(self, selector: Selector, what: str) -> Scored:
        """The scores of a method that looks at no model."""
        if selector.reads_counts:
            self.need_counts(what)
        none = np.zeros(len(self), dtype=np.int64)
        prompt, response = self.counts or (none, none)
        seen = Seen(ids=self.id, n_prompt_tokens=prompt, n_response_tokens=response)
        values = np.asarray(selector.score(seen), dtype=np.float64)
        return Scored(None, values, selector.reasons(seen, values))


def candidates_of(run: Run) -> Candidates:
    """The pool of a run, ready to pick from; UsageError where it was not read yet."""
    pool = pool_of(run)
    found = pool.columns("id", "source", "row", "digest")
    texts = {key: np.asarray(found[key], dtype=object) for key in ("id", "source", "digest")}
    return Candidates(run, pool, row=np.asarray(found["row"], dtype=np.int64), **texts)


def column_of(
    run: Run, method: Method | str, *, score: str | None, direction: str | None, seed: int
) -> tuple[Method, Selector, str | None]:
    """The method, its selector and its score column (None: computed on the spot).

    The column is `score`, else the one named like the METHOD, else the only one whose recorded
    method scores alike (knobs that only pick, such as the direction, may differ). A METHOD that is
    itself the name of a column stands for the method recorded there.
    """
    known = run.section("scores")
    method, score = _spoken(known, method, score)
    if direction is None and "direction" not in method.args:
        named = known.get(score or method.text, {})
        direction = named.get("direction") if _choosable(method) else None
    selector = make(with_seed(method, seed), direction)
    if score is None and selector.needs:
        score = method.text if method.text in known else _alike(run, known, method, selector)
    if score is not None and score not in known:
        raise no_such_score(run, score)
    return method, selector, score


def _spoken(
    known: Mapping[str, Any], said: Method | str, score: str | None
) -> tuple[Method, str | None]:
    """A METHOD, or the name of a column standing for the method recorded there."""
    text = said.strip() if isinstance(said, str) else said.text
    if text in known and known[text]["method"] != text:
        return parse_method(known[text]["method"]), score or text
    return (parse_method(said) if isinstance(said, str) else said), score


def with_seed(method: Method, seed: int) -> Method:
    """`seed` for a method that draws and was not given one."""
    kind = SELECTORS.get(method.name)
    if "seed" in method.args or "seed" not in getattr(kind, "__dataclass_fields__", {}):
        return method
    return Method(method.name, {**method.args, "seed": seed}, method.text)


def _choosable(method: Method) -> bool:
    kind: Any = SELECTORS.get(method.name)
    # `fields` leaves class variables out: `longest` has a direction, and none to choose.
    return not is_dataclass(kind) or "direction" in {field.name for field in fields(kind)}


def _alike(run: Run, known: Mapping[str, Any], method: Method, selector: Selector) -> str:
    names = []
    for name, facts in known.items():
        recorded = parse_method(str(facts["method"]))
        if recorded.name == method.name and same_scores(make(recorded), selector):
            names.append(name)
    if len(names) > 1:
        raise UsageError(
            f"{run.root} has several scores by {method.name}: {', '.join(names)}",
            hint=f"name one of them: --method '{names[0]}'",
        )
    if not names:
        raise no_such_score(run, method.text)
    return names[0]


def no_such_score(run: Run, name: str) -> UsageError:
    """The missing step, by its command."""
    known = ", ".join(sorted(run.section("scores"))) or "none"
    return UsageError(
        f"{run.root} has no score '{name}' yet (scores there: {known})",
        hint=f"pilotfish score {run.root} --weak MODEL --method '{name}' --out {run.root}",
    )
