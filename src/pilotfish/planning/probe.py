"""The probe: time the code of the run on a few rows, on this machine.

The forward probe reads more and more rows, for scoring, evaluation and weak labels. The training
probe takes optimizer steps on usual and on long rows. Nothing is kept.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from pilotfish.arms.price import WRITE_BYTES, Pace
from pilotfish.arms.workload import Workload
from pilotfish.config import TrainConfig
from pilotfish.config.scoring import DEFAULT_MAX_LENGTH
from pilotfish.data_order import rows_per_step
from pilotfish.engine.batches import distinct, find_budget, plan
from pilotfish.engine.forward import Forward
from pilotfish.engine.generate import ConfidenceObserver, decode, encode_batch, generation_budget
from pilotfish.engine.in_memory import InMemoryScorer
from pilotfish.engine.scorer import LENGTHS, by_pass, run_pass
from pilotfish.evaluation import METRICS
from pilotfish.evaluation.exact_match import answer_room
from pilotfish.labeling.settings import room_for
from pilotfish.losses import make_loss
from pilotfish.models import Loaded, load
from pilotfish.planning.throughput import (
    SELECT_ROW,
    EvalRate,
    Rates,
    ScoringRate,
    TrainingRate,
    all_arms,
    config_key,
    padded_positions,
    training_kinds,
)
from pilotfish.progress import Progress
from pilotfish.records import Example, Floats, Ints, Need
from pilotfish.scoring.weak_model import fast_format
from pilotfish.store import Store
from pilotfish.tokenization import clamp_max_length, encode_needs, encode_scoring, end_ids
from pilotfish.training.data.dataset import training_set_of
from pilotfish.training.data.rows import TokenizedRows
from pilotfish.training.loop import Plan, TrainerModule, steps
from pilotfish.training.setup import prepare, seeded
from pilotfish.training.trainer import build_learner
from pilotfish.training.validation import held_out_loss

T = TypeVar("T")
Scores = Mapping[str, Floats]  # selection -> [n] higher is picked first, nan where unknown

SHARES = {"score": 0.3, "label": 0.15, "weak": 0.15, "judge": 0.4, "tune": 0.3, "train": 0.9}
MIN_SCORED, MAX_SCORED = 40, 400  # rows whose scores tell how long the selected ones are
WARM_ROWS = 4  # the shortest ones, read first
FIRST_TOKENS = 128  # of the first timed rows
NEW_TOKENS = 8  # written to time one
TRAINED_ROWS = 256  # rows that the training probe has
DRAWN_STEPS = 33  # of which a usual one is taken
MAX_STEPS = 40  # timed of each kind
# A score or a selection: seconds for its tables and manifests, and files it forces to disk.
STAGE_SECONDS, STAGE_COMMITS = 0.03, 4
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def probe(work: Workload, folder: Path, seconds: float, progress: Progress) -> tuple[Rates, Scores]:
    """Load both models and time them.

    Args:
        work: What the run has to do.
        folder: For files that are written to time the disk.
        seconds: What the probe may take in all, about.
        progress: Receives one line per part.

    Returns:
        The rates, and by each selection the scores of those sampled rows that there was time for.

    Raises:
        RuntimeError: A model does not fit into memory, or a kernel is missing.
    """
    clock, recipe, test = ProbeClock(seconds), work.recipe, work.data.held_out.test
    arms, kinds = all_arms(work), training_kinds(work)
    progress.note("probe: loading the weak model and scoring a few rows")
    load_weak, weak = timed(lambda: load(recipe.weak, precision=recipe.precision))
    with clock.stage("score"):
        scoring, scores = _score(work, weak, load_weak, folder, clock.share("score"))
    plain = weak if weak.precision != "int8" else replace(weak, precision="fp32")
    labeling = weak_evaluation = None
    if any(arm.rows == "relabelled" for arm in arms):
        answered = [row for row in work.lengths.rows if row.turns or row.label]
        room = room_for([row.response for row in answered], plain)
        scale = work.pool_rows / max(len(answered), 1)
        with clock.stage("label"):
            labeling = time_answers(
                plain, load_weak, answered, room, seconds=clock.share("label"), scale=scale
            )
    if any(arm.name == "weak" for arm in arms):
        weak_evaluation = time_evaluation(
            plain, load_weak, test, work.test.metric, seconds=clock.share("weak")
        )
    progress.note("probe: evaluating a few rows")
    load_strong, strong = timed(lambda: load(recipe.strong))
    with clock.stage("judge"):
        evaluation = time_evaluation(
            strong, load_strong, test, work.test.metric, seconds=clock.share("judge")
        )
    size = strong.parameters
    del strong
    progress.note("probe: a few training steps")
    tuning, training = None, {}
    if work.tuned:
        with clock.stage("tune"):
            tuning = time_training(
                recipe.weak, _some(work.data.held_out.trusted), work.tuning.config,
                seconds=clock.share("tune"), save=_save_seconds(folder, 4 * weak.parameters),
            )  # fmt: skip
    rows = _some(work.lengths.rows)
    for left, config in zip(range(len(kinds), 0, -1), kinds, strict=True):
        with clock.stage("train"):
            training[config_key(config)] = time_training(
                recipe.strong, rows, _without_files(config), seconds=clock.share("train") / left,
                save=_save_seconds(folder, 4 * size),
                teacher=weak if _has_teacher(config) else None,
            )  # fmt: skip
    note = f"measured by a probe of {clock.spent:.0f} s on this machine"
    facts = {"seconds": clock.spent, "memory_is": clock.memory_is}
    return Rates(
        "probe", note, scoring, training, evaluation, tuning, weak_evaluation, labeling,
        clock.peak, facts,
    ), scores  # fmt: skip


@dataclass
class ProbeClock:
    """The seconds that the probe may take, and the most memory that each stage held."""

    seconds: float
    started: float = field(default_factory=time.monotonic)
    peak: dict[str, int] = field(default_factory=dict)  # stage -> bytes, where they can be measured

    @property
    def spent(self) -> float:
        """Seconds since the probe began."""
        return time.monotonic() - self.started

    @property
    def memory_is(self) -> str:
        """The kind of memory in `peak`."""
        if not self.peak:
            return ""
        gpu = torch.cuda.is_available()
        return "memory of the GPU" if gpu else "resident memory of the process"

    def share(self, stage: str) -> float:
        """Return the stage's share of the seconds left, at least a tenth of a second."""
        return max(0.1, SHARES[stage] * (self.seconds - self.spent))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the peak memory of the process inside the block.

        On CUDA the memory that torch allocated, elsewhere the high-water mark of resident memory
        that Linux reports.
        """
        gpu, found = torch.cuda.is_available(), 0
        if gpu:
            torch.cuda.reset_peak_memory_stats()
        else:
            with suppress(OSError):  # no Linux, or not allowed: the peak since the process began
                _RESET.write_text("5")
        yield
        if gpu:
            found = int(torch.cuda.max_memory_allocated())
        elif _STATUS.exists() and (line := re.search(r"VmHWM:\s+(\d+)", _STATUS.read_text())):
            found = int(line[1]) * 1024
        if found:
            self.peak[name] = max(found, self.peak.get(name, 0))


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Return the seconds and the result of a call, waiting until the device is done."""
    start = time.perf_counter()
    found = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, found


def line(point: tuple[float, float], other: tuple[float, float]) -> Pace:
    """Fit a line through two points (units, seconds).

    It passes through the first point, never falls, and starts at or above zero; at zero where the
    points are closer than a fifth.
    """
    (x, a), (y, b) = point, other
    far = max(x, y) > 1.2 * min(x, y)
    slope = float(np.clip((b - a) / (y - x) if far else a / x, 0.0, a / x))
    return Pace(a - slope * x, slope)


class ForwardTimes(NamedTuple):
    """The times of the forward probe; points are (units, seconds)."""

    start: float  # seconds of the first call beyond those of a later one
    small: tuple[float, float]
    large: tuple[float, float]

    @property
    def pace(self) -> Pace:
        """Seconds of one call, by units."""
        return line(self.large, self.small)


def time_forward(
    read: Callable[[Ints], object], units: Floats, *, first: float, seconds: float
) -> ForwardTimes:
    """Time a forward pass on more and more rows of all lengths, while time allows.

    Args:
        read: Runs the model on the rows with these indices.
        units: [n] what each row costs, in tokens or as 1.
        first: Units of the first rows that are timed.
        seconds: What all calls may take, about.
    """
    order = np.argsort(-units, kind="stable")
    warm = order[-WARM_ROWS:]
    cold, _ = timed(partial(read, warm))
    wanted, begun, points = first, time.monotonic(), list[tuple[float, float]]()
    while True:
        rows = order[_evenly(len(order), len(order) * wanted / max(float(units.sum()), 1.0))]
        spent, _ = timed(partial(read, rows))
        points.append((float(units[rows].sum()), spent))
        left = seconds - (time.monotonic() - begun)
        wanted = 0.8 * points[-1][0] * left / max(spent, 1e-6)
        if wanted < 2 * points[-1][0] or len(rows) == len(order):
            break
    each = points[-1][1] / max(points[-1][0], 1.0)
    start = max(0.0, cold - float(units[warm].sum()) * each)
    return ForwardTimes(start, points[0], points[-1])


def _score(
    work: Workload, weak: Loaded, load_seconds: float, folder: Path, seconds: float
) -> tuple[ScoringRate, Scores]:
    """Time the forward passes of scoring, in fp32 too where a faster format is checked against it.

    Then score evenly spaced rows by each method that ranks from one end; {} where too few.
    """
    recipe, rows = work.recipe, work.lengths.rows
    budget = find_budget(weak)
    limit = clamp_max_length(recipe.max_length or DEFAULT_MAX_LENGTH, weak.window)
    fast = fast_format(weak, recipe.precision, work.pool_rows, list(work.selectors.values()))
    used, exact = replace(weak, precision=fast) if fast else weak, 0.0
    encoding, encoded = timed(lambda: encode_needs(rows, work.needs, weak.tokenizer, limit))
    passes = [each for each in by_pass(encoded) if LENGTHS not in each]
    start, token = _time_passes(used, passes, budget, 0.6 * seconds)
    if fast:
        plain = weak if weak.precision == "fp32" else load(weak.path, precision="fp32")
        _, exact = _time_passes(plain, passes, budget, 0.2 * seconds)
    commit, encode = _commit_seconds(folder, 2**16), encoding / max(len(rows), 1)
    stage = STAGE_SECONDS + STAGE_COMMITS * commit
    rate = ScoringRate(
        load_seconds, start, encode, token, len(work.needs) * commit, stage,
        Pace(stage, SELECT_ROW), used.precision, exact,
    )  # fmt: skip
    each = float(work.lengths.weak.mean()) * len(passes) * token + encode
    count = int(min(len(rows), MAX_SCORED, 0.3 * seconds / max(each, 1e-9)))
    if count < MIN_SCORED:
        return rate, {}
    places = _evenly(len(rows), count)
    scorer = InMemoryScorer(used, work.needs, max_length=limit, token_budget=budget)
    features, scores = scorer([rows[int(i)] for i in places]), {}
    for name, selector in work.selectors.items():
        if selector.direction in ("high", "low") and not selector.pool_relative:
            values = np.full(len(rows), np.nan)
            values[places] = np.asarray(selector.score(features), dtype=np.float64)
            scores[name] = -values if selector.direction == "low" else values
    return rate, scores


def _time_passes(
    loaded: Loaded, passes: Sequence[Mapping[Need, Sequence[Any]]], budget: int, seconds: float
) -> tuple[float, float]:
    """Return the seconds of the start and per token, over the distinct texts of every pass."""
    forward, found = Forward(loaded), list[ForwardTimes]()
    for needs in passes:
        rows = next(iter(needs.values()))
        full = [i for i, row in enumerate(rows) if len(row.read.ids)]
        if not full:
            continue
        first = np.array(full)[distinct([rows[i] for i in full]).first]  # each text once

        def read(chosen: Ints, needs: Any = needs, first: Ints = first) -> object:
            some = {need: [each[int(i)] for i in first[chosen]] for need, each in needs.items()}
            return run_pass(some, forward, budget)

        tokens = np.array([len(rows[int(i)].read.ids) for i in first], dtype=np.float64)
        found.append(time_forward(read, tokens, first=FIRST_TOKENS, seconds=seconds / len(passes)))
    tokens_read = sum(each.large[0] for each in found)
    spent = sum(each.large[1] for each in found)
    return sum(each.start for each in found), spent / max(tokens_read, 1.0)


def time_evaluation(
    loaded: Loaded, load_seconds: float, rows: Sequence[Example], metric: str, *, seconds: float
) -> EvalRate:
    """Time the evaluation of some rows and work out all of them.

    Args:
        loaded: The model.
        load_seconds: What loading it took.
        rows: The test rows.
        metric: A name from METRICS.
        seconds: What the calls may take, about.
    """
    if metric == "exact_match":
        room = answer_room(loaded, [row.response for row in rows])
        return time_answers(loaded, load_seconds, rows, room, seconds=seconds)
    found = encode_scoring(rows, Need("nll"), loaded.tokenizer, loaded.window or 2**31)
    tokens = np.array([row.n_prompt + row.n_response for row in found], dtype=np.float64)
    times = time_forward(
        lambda chosen: METRICS[metric].items(loaded, [rows[int(i)] for i in chosen]), tokens,
        first=FIRST_TOKENS, seconds=seconds,
    )  # fmt: skip
    total = float(tokens.sum())
    return EvalRate(load_seconds, times.pace(total), times.pace(total), total, 0.0)


class _Endless(ConfidenceObserver):
    """Greedy decoding in which no answer ends, so every call writes the same number of tokens."""

    def __init__(self, ends: Sequence[int]) -> None:
        super().__init__()
        self._ends = list(ends)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores[:, self._ends] = -torch.inf
        return super().__call__(input_ids, scores)


def time_answers(
    loaded: Loaded,
    load_seconds: float,
    rows: Sequence[Example],
    room: int,
    *,
    seconds: float,
    scale: float = 1.0,
) -> EvalRate:
    """Time the first tokens of some greedy answers and work out all of them.

    A trained model is taken to end its answers where the expected ones end, an untrained one to
    use all of its room.

    Args:
        loaded: The model.
        load_seconds: What loading it took.
        rows: The rows it answers, or a sample of them.
        room: Most tokens of an answer.
        seconds: What the calls may take, about.
        scale: Rows in all for each of `rows`.
    """
    encoding, prompts = timed(lambda: encode_batch(loaded, rows, room))
    if not prompts.ids:
        return EvalRate(load_seconds, encoding, encoding, 0.0, 0.0)
    lengths = [len(ids) for ids in prompts.ids]
    budget = generation_budget(loaded.device)
    batches = plan([n + room for n in lengths], budget, tie=prompts.found.key)
    largest, ends = max(batches, key=len), end_ids(loaded.tokenizer)

    def time_writing(new: int) -> Pace:
        """Return the seconds of a batch by its rows, with `new` tokens per answer."""

        def read(chosen: Ints) -> object:
            some = [prompts.ids[int(largest[i])] for i in chosen]
            keys = [str(i).encode() for i in chosen]
            return decode(loaded, some, keys, _Endless(ends), room=new, batch_tokens=2**40)

        ones = np.ones(len(largest))
        return time_forward(read, ones, first=2, seconds=seconds / 2).pace

    new = max(2, min(room, NEW_TOKENS))
    one, several = time_writing(1), time_writing(new)
    expected = loaded.tokenizer(
        [rows[place].response for place in prompts.places], add_special_tokens=False, verbose=False
    )["input_ids"]
    answers = np.zeros(len(lengths), dtype=np.int64)  # [u] tokens of the longest expected answer
    np.maximum.at(answers, prompts.found.kind, [min(len(ids), room) for ids in expected])
    trained = untrained = 2 * encoding  # a metric tokenizes prompts twice
    new_tokens = 0.0
    for batch in batches:
        prompt = one(len(batch))
        token = max(several(len(batch)) - prompt, 0.0) / (new - 1)
        last = int(min(room, answers[batch].max() + 1))
        trained += prompt + (last - 1) * token
        untrained += prompt + (room - 1) * token
        new_tokens += last * len(batch)
    return EvalRate(
        load_seconds, scale * trained, scale * untrained, scale * sum(lengths), scale * new_tokens
    )


def time_training(
    name: str,
    rows: Sequence[Example],
    config: TrainConfig,
    *,
    seconds: float,
    save: float,
    teacher: Loaded | None = None,
) -> TrainingRate:
    """Time optimizer steps with the batch, loss and LoRA of the run.

    Args:
        name: The model, a folder or a hub id.
        rows: Training rows.
        config: The settings of training.
        seconds: What the steps may take, about.
        save: Seconds to write the model.
        teacher: The weak model, where the loss needs it.
    """
    loss = make_loss(config.loss)
    with seeded(0):
        loading, student = timed(lambda: prepare(name, config))
        encoding, dataset = timed(
            lambda: training_set_of(rows, student, loss, config, teacher=teacher)
        )
        building, module = timed(lambda: build_learner(student, loss, dataset.rows, teacher))
        state = TrainerModule.begin(module, config)
        pace = _time_steps(state, dataset.rows, config, bf16=student.bf16, seconds=seconds)
        some = dataset.rows.take(range(min(16, len(dataset.rows))))
        held_out = timed(lambda: held_out_loss(student, some))[0] / sum(some.lengths)
    return TrainingRate(loading + building, encoding / len(rows), pace, save, held_out)


def _time_steps(
    state: TrainerModule, rows: TokenizedRows, config: TrainConfig, *, bf16: bool, seconds: float
) -> Pace:
    """Fit a line through the seconds of usual and long steps, by padded positions.

    The two take turns, since the load of the machine changes.
    """
    order, size = np.argsort(rows.lengths, kind="stable"), rows_per_step(config)
    rng = np.random.default_rng(0)

    def positions(chosen: Ints) -> float:
        return padded_positions([rows.lengths[int(i)] for i in chosen], config)

    def take(chosen: Ints) -> float:
        made = Plan(steps=1, learning_rate=1e-6, seed=0, bf16=bf16)
        moving = steps(state, rows.take([int(i) for i in chosen]), made, config)
        return timed(lambda: next(moving))[0]

    drawn = [np.resize(rng.permutation(len(rows)), size) for _ in range(DRAWN_STEPS)]
    usual, long = sorted(drawn, key=positions)[DRAWN_STEPS // 2], np.resize(order[::-1], size)
    short, below = np.resize(order, size), np.resize(order[len(order) // 2 :], size)
    begun = time.monotonic()
    take(short)  # the memory of the optimizer, the first kernels
    points = list[tuple[float, float]]()
    for chosen in (short, below, usual):  # cheapest first: a large model may get no further
        points.append((positions(chosen), take(chosen)))
        if len(points) > 1 and time.monotonic() - begun > seconds:
            return line(points[-1], points[0])
    usual_times, long_times = [points[-1][1]], list[float]()
    while len(long_times) < MAX_STEPS and time.monotonic() - begun < seconds:
        usual_times.append(take(usual))
        long_times.append(take(long))
    typical = (positions(usual), float(np.median(usual_times)))
    if not long_times:
        return line(typical, points[0])
    return line(typical, (positions(long), float(np.median(long_times))))


def _without_files(config: TrainConfig) -> TrainConfig:
    """Return the settings without those that need files of a run: teacher cache, row weights."""
    changes: dict[str, Any] = {"weights": None, "stop": "none", "gold_share": None, "replay": None}
    if config.teacher == "cached" and _has_teacher(config):
        changes |= {"teacher": "online", "loss": "lm"}  # a cached teacher costs no forward pass
    return config.model_copy(update=changes)


def _has_teacher(config: TrainConfig) -> bool:
    return bool(config.focus) or "teacher" in make_loss(config.loss).needs


def _evenly(rows: int, count: float) -> Ints:
    """Return about `count` row indices, evenly spaced."""
    places = np.linspace(0, rows - 1, max(1, min(rows, round(count))))
    return np.unique(places.round().astype(np.int64))


def _some(rows: Sequence[Example]) -> list[Example]:
    """Return the rows of the training probe, evenly spaced."""
    return [rows[int(i)] for i in _evenly(len(rows), TRAINED_ROWS)]


def _save_seconds(folder: Path, size: int) -> float:
    """Estimate the seconds to write and hash `size` bytes and force them to disk."""
    some = min(size, 2**24)
    fixed, spent = _commit_seconds(folder, 2**16), _commit_seconds(folder, some)
    return fixed + max(spent - fixed, some / (10 * WRITE_BYTES)) * size / some


def _commit_seconds(folder: Path, size: int) -> float:
    """Time the commit of a file of `size` bytes with its manifest."""

    def commit() -> None:
        with Store(folder).attempt("timed.json") as attempt:
            attempt.path("timed.bin").write_bytes(bytes(size))
            attempt.meta = {}

    return timed(commit)[0]
