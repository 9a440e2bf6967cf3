"""Rates by a probe: the models are loaded, and the run's own code is timed on a few rows."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pilotfish.arms.selections import MAIN
from pilotfish.config import TrainConfig
from pilotfish.config.data import Source
from pilotfish.config.scoring import DEFAULT_MAX_LENGTH, ScoreConfig
from pilotfish.data.held_out import source_of_recipe
from pilotfish.data.run_pool import open_pool
from pilotfish.errors import DataError, UsageError
from pilotfish.labeling.settings import room_for
from pilotfish.methods import Selector
from pilotfish.planning.jobs import Grounds
from pilotfish.planning.steps import course_of, key_of
from pilotfish.planning.throughput import (
    FILES,
    SELECT_ROW,
    WRITE_BYTES,
    Answering,
    Learning,
    Pace,
    Rates,
    Scoring,
)
from pilotfish.planning.time_evaluation import answer_some, judge_some
from pilotfish.planning.time_scoring import Read, Watch, read_some, timed
from pilotfish.planning.time_training import learn_some
from pilotfish.progress import SILENT, Progress
from pilotfish.records import Example, Floats, Need
from pilotfish.run_context import RunContext
from pilotfish.scoring.score import add_scores
from pilotfish.scoring.setup import needs_of
from pilotfish.scoring.weak_model import fast_format
from pilotfish.selection.controls import random_control
from pilotfish.selection.select import select_into
from pilotfish.store import Run, Store, run_lock

if TYPE_CHECKING:
    from pilotfish.models import Loaded

REHEARSED = 8  # rows that go through score and select as a run's do
LOOKED, LEAST = 400, 40  # rows whose scores say how long the picked ones are
SHARES = {"score": 0.3, "label": 0.15, "judge": 0.4, "tune": 0.3}  # of the seconds left


Scores = Mapping[str, Floats]  # selection -> [m] higher is picked sooner, nan: unknown


@dataclass(frozen=True)
class Probe:
    """What is to be timed. arms: all that any level of evidence has; relabels: whether one of them
    learns from answers of the weak model."""

    grounds: Grounds
    selectors: Mapping[str, Selector]  # by the selection that each makes
    metric: str
    configs: Sequence[TrainConfig]  # one of each kind of training
    folder: Path
    arms: frozenset[str]
    relabels: bool
    progress: Progress = SILENT

    @property
    def needs(self) -> tuple[Need, ...]:
        """Of all methods, each once."""
        return needs_of(self.selectors.values())


class Rehearsed(NamedTuple):
    """Seconds that do not grow with the rows: a score, a shard more of it, a pick, a control."""

    score: float
    shard: float
    select: float
    control: float


def probe(asked: Probe, seconds: float) -> tuple[Rates, Scores]:
    """Rates, and by each method the scores of those rows at hand that there was time to look at."""
    watch = Watch(seconds)
    recipe, rows = asked.grounds.recipe, asked.grounds.lengths.rows
    from pilotfish.models import load

    asked.progress.note("probe: loading the weak model and scoring a few rows")
    load_weak, weak = timed(lambda: load(recipe.weak, precision=recipe.precision))
    with watch.stage("score"):
        scoring, scores = _scoring(asked, weak, load_weak, watch.share(SHARES["score"]))
    labelling, judging_weak = _weak_answers(asked, weak, load_weak, watch)
    load_strong, strong = timed(lambda: load(recipe.strong))
    test = asked.grounds.holding.beside.test
    asked.progress.note("probe: judging a few rows")
    with watch.stage("judge"):
        judging = judge_some(
            strong, load_strong, test, asked.metric, seconds=watch.share(SHARES["judge"])
        )
    size = strong.parameters
    del strong
    asked.progress.note("probe: a few training steps")
    tuning = _tuning(asked, weak, watch)
    learning = {}
    for left, config in zip(range(len(asked.configs), 0, -1), asked.configs, strict=True):
        with watch.stage("train"):
            learning[key_of(config)] = learn_some(
                recipe.strong, _spread(rows, 256), online(config), seconds=watch.share(0.9 / left),
                save=_saving(asked.folder, 4 * size), teacher=weak if _taught(config) else None,
            )  # fmt: skip
    rates = Rates(
        "probe", f"measured by a probe of {watch.spent:.0f} s on this machine", scoring, learning,
        judging, tuning, judging_weak, labelling, watch.peak,
        {"seconds": watch.spent, "memory_is": watch.peak_of},
    )  # fmt: skip
    return rates, scores


def _scoring(asked: Probe, weak: "Loaded", load: float, seconds: float) -> tuple[Scoring, Scores]:
    from pilotfish.engine.token_budget import find_budget
    from pilotfish.models import load as load_model

    grounds, recipe = asked.grounds, asked.grounds.recipe
    budget = find_budget(weak)
    fast = fast_format(weak, recipe.precision, grounds.pool, list(asked.selectors.values()))

    def read(loaded: "Loaded", part: float) -> Read:
        return read_some(
            loaded, grounds.lengths.rows, asked.needs,
            max_length=recipe.max_length or DEFAULT_MAX_LENGTH, token_budget=budget, seconds=part,
        )  # fmt: skip

    used = replace(weak, precision=fast) if fast else weak
    found = read(used, 0.6 * seconds)
    exact = Read(0.0, 0.0, 0.0, 0)
    if fast:
        plain = weak if weak.precision == "fp32" else load_model(weak.path, precision="fp32")
        exact = read(plain, 0.2 * seconds)
    rehearsed = _rehearse(asked, weak, exact if fast else found)
    scores = _looked(asked, used, found, 0.3 * seconds, budget)
    return Scoring(
        load, found.start, found.encode, found.token, rehearsed.shard, rehearsed.score,
        Pace(rehearsed.select, SELECT_ROW), Pace(rehearsed.control, SELECT_ROW),
        used.precision, exact.token,
    ), scores  # fmt: skip


def _rehearse(asked: Probe, weak: "Loaded", pace: Read) -> Rehearsed:
    """Score and select the shortest rows as a run does: what files and manifests take."""
    grounds, recipe = asked.grounds, asked.grounds.recipe
    order = np.argsort(grounds.lengths.weak, kind="stable")
    usable = [int(i) for i in order if grounds.lengths.response[i] > 1][:REHEARSED]
    picks, data = grounds.picks, asked.folder / "few.jsonl"
    method = picks.methods[MAIN]
    data.write_text("".join(f"{grounds.lengths.rows[i].raw}\n" for i in usable))
    source = Source(str(data), mapping=dict(source_of_recipe(recipe).mapping), max_bad_rate=1.0)
    exact = replace(weak, precision="fp32") if weak.precision == "int8" else weak

    def pick(name: str) -> None:
        select_into(
            run, method=method, score=picks.column(method, ""), budget="50%", name=name,
            direction=recipe.direction, allow_short=True,
        )  # fmt: skip

    with suppress(UsageError, DataError), run_lock(asked.folder / "few") as store:
        run = Run(store.root)
        columns = picks.columns("")
        config = ScoreConfig(
            recipe.weak,
            [*columns.values()],
            [*columns],
            direction=recipe.direction,
            max_length=recipe.max_length,
            precision="fp32",
        )
        pool = open_pool(run, source)
        score, _ = timed(lambda: add_scores(RunContext(run), pool, exact, config))
        pick("selected")  # imports, mostly
        select, control = timed(lambda: pick("again"))[0], timed(lambda: random_control(run))[0]
        read = sum(int(grounds.lengths.weak[i]) for i in usable) * len(grounds.lengths.passes)
        fixed = max(0.0, score - read * pace.token - len(usable) * pace.encode)
        shard = len(asked.needs) * timed(lambda: _commit(store))[0]
        return Rehearsed(fixed, shard, select, control)
    return Rehearsed(FILES, FILES, FILES, FILES)  # too few rows, or none of them can be scored


def _commit(store: Store) -> None:
    with store.attempt("commit.json") as attempt:
        attempt.path("commit.bin").write_bytes(bytes(2**16))
        attempt.meta = {}


def _looked(asked: Probe, weak: "Loaded", pace: Read, seconds: float, budget: int) -> Scores:
    """What methods say of some of the rows at hand; {} where that would be too few to tell."""
    from pilotfish.engine.in_memory import InMemoryScorer

    lengths, limit = asked.grounds.lengths, asked.grounds.recipe.max_length or DEFAULT_MAX_LENGTH
    each = float(lengths.weak.mean()) * len(lengths.passes) * pace.token + pace.encode
    count = int(min(len(lengths.rows), LOOKED, seconds / max(each, 1e-9)))
    if count < LEAST:
        return {}
    places = np.unique(np.linspace(0, len(lengths.rows) - 1, count).round().astype(np.int64))
    look = InMemoryScorer(weak, asked.needs, max_length=limit, token_budget=budget)
    seen = look([lengths.rows[int(i)] for i in places])
    found = {}
    for name, selector in asked.selectors.items():
        if selector.direction in ("high", "low") and not selector.pool_relative:
            values = np.full(len(lengths.rows), np.nan)
            values[places] = np.asarray(selector.score(seen), dtype=np.float64)
            found[name] = -values if selector.direction == "low" else values
    return found


def _weak_answers(
    asked: Probe, weak: "Loaded", load: float, watch: Watch
) -> tuple[Answering | None, Answering | None]:
    """What the weak model takes to answer the pool, and to be judged; None where it does not."""
    grounds, labels, judged = asked.grounds, None, None
    plain = weak if weak.precision != "int8" else replace(weak, precision="fp32")
    if asked.relabels:
        rows = [row for row in grounds.lengths.rows if row.turns or row.label]
        room = room_for([row.response for row in rows], plain)
        with watch.stage("label"):
            labels = answer_some(
                plain, load, rows, room, seconds=watch.share(SHARES["label"]),
                times=grounds.pool / max(len(rows), 1),
            )  # fmt: skip
    if "weak" in asked.arms:
        test = grounds.holding.beside.test
        judged = judge_some(plain, load, test, asked.metric, seconds=watch.share(0.15))
    return labels, judged


def _tuning(asked: Probe, weak: "Loaded", watch: Watch) -> Learning | None:
    grounds, trusted = asked.grounds, asked.grounds.holding.beside.trusted
    if not trusted:
        return None
    course = course_of(grounds.recipe.weak_train, grounds.trusted)
    with watch.stage("tune"):
        return learn_some(
            grounds.recipe.weak, _spread(trusted, 256), course.config,
            seconds=watch.share(SHARES["tune"]), looks=True,
            save=_saving(asked.folder, 4 * weak.parameters),
        )  # fmt: skip


def online(config: TrainConfig) -> TrainConfig:
    """The settings without what only a run can bring: a stored teacher, a column of weights."""
    changes: dict[str, Any] = {"weights": None, "stop": "none", "gold_share": None, "replay": None}
    if config.teacher == "cached" and _taught(config):
        changes |= {"teacher": "online", "loss": "lm"}  # read from disk: no model of its own
    return config.model_copy(update=changes)


def _taught(config: TrainConfig) -> bool:
    from pilotfish.losses import make_loss

    return bool(config.focus) or "teacher" in make_loss(config.loss).needs


def _spread(rows: Sequence[Example], count: int) -> list[Example]:
    """At most `count` of the rows, evenly from all of them."""
    places = np.unique(np.linspace(0, len(rows) - 1, count).round().astype(np.int64))
    return [rows[int(i)] for i in places]


def _saving(folder: Path, size: int) -> float:
    """Seconds to write so many bytes, hash them and force them to disk, from a few of them."""
    some = min(size, 2**24)
    store = Store(folder)

    def write() -> None:
        with store.attempt("weights.json") as attempt:
            attempt.path("weights.bin").write_bytes(bytes(some))
            attempt.meta = {}

    fixed, spent = timed(lambda: _commit(store))[0], timed(write)[0]
    return fixed + max(spent - fixed, some / (10 * WRITE_BYTES)) * size / some


def facts_of(rates: Rates) -> Mapping[str, Any]:
    """What was measured, as plain numbers."""
    scoring, judging = rates.scoring, rates.judging
    steps = [
        {"fixed_seconds": each.step.fixed, "seconds_per_position": each.step.each}
        for each in rates.learning.values()
    ]
    return {
        **rates.facts,
        "how": rates.how,
        "precision": scoring.precision,
        "scored_tokens_per_second": 1 / scoring.token if scoring.token else None,
        "steps": steps,
        "judge_seconds": {"trained": judging.trained, "untrained": judging.untrained},
    }
