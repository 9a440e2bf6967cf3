"""The numbered steps of a run with what each takes: rows, tokens, FLOPs, memory and time."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pilotfish.arms.selections import MAIN
from pilotfish.config import TrainConfig, WeakTrainConfig
from pilotfish.data.ingest import SHARD_ROWS
from pilotfish.flops import forward, generation, training
from pilotfish.planning.jobs import Grounds, Job
from pilotfish.planning.lengths import Model, in_view, padded
from pilotfish.planning.throughput import (
    FILES,
    Answering,
    Rates,
    answering_bytes,
    reading_bytes,
    training_bytes,
)
from pilotfish.records import Ints
from pilotfish.scoring.audit.remeasure import audit_rows, block_rows
from pilotfish.scoring.weak_model import SAMPLE
from pilotfish.selection.canaries.attacks import ATTACKS


@dataclass(frozen=True)
class Course:
    """Every learning rate through every epoch. learnt, read: tokens, to learn and to judge by."""

    config: TrainConfig  # with the batches that few rows get
    rows: int
    steps: int
    learnt: float
    read: float


def course_of(tune: WeakTrainConfig, lengths: Ints) -> Course:
    """Of trusted rows with so many tokens each."""
    from pilotfish.training.tune import EPOCHS, SHARES, for_few_rows

    settings = TrainConfig(**dict(tune))
    rows, rate = len(lengths), settings.learning_rate
    held = max(1, rows // 5)
    rates = len(set(rate)) if isinstance(rate, list) else len(SHARES) if rate is None else 1
    config = for_few_rows(settings, rows - held)
    size, mean = config.per_device_train_batch_size, float(lengths.mean())
    steps = rates * EPOCHS * math.ceil((rows - held) / size)
    return Course(config, rows, steps, steps * size * mean, rates * (EPOCHS + 1) * held * mean)


REPORT = (0.3, 0.03)  # seconds of the page, and of what is resampled for every model
TOKENS = 2048  # of a forward pass, on a CPU
WALKED = 12  # blocks that put a fast score right around its cuts, where few rows flip


@dataclass(frozen=True)
class Step:
    """One thing a run does. None: unknown, or nothing of the kind is spent."""

    stage: str
    name: str
    rows: int
    seconds: float
    tokens: float | None = None
    flops: float | None = None
    memory_bytes: int | None = None
    memory: str = "estimated"  # or measured
    models: int = 0  # trained by it
    steps: int = 0  # of the optimizer
    n: int = 0


@dataclass(frozen=True)
class Counting:
    """What steps are counted from, beside the jobs."""

    grounds: Grounds
    weak: Model
    strong: Model
    rates: Rates
    prompt: float  # tokens of a test prompt to the strong model, on average
    room: float  # tokens an answer may take; 0 where the metric only reads
    lora: bool
    bf16: bool

    @property
    def tuned(self) -> bool:
        """Whether there are trusted rows to tune the weak model on."""
        return len(self.grounds.trusted) > 0


def steps_of(counting: Counting, jobs: Sequence[Job], planted: int = 0) -> list[Step]:
    """All steps, stage by stage, numbered from 1. planted: rows of each attack."""
    seeds = 1 + max((job.seed for job in jobs), default=0)
    times = range(seeds if counting.tuned else 1)
    fixed, each = REPORT
    found = [
        _read(counting),
        *(_tune(counting, seed) for seed in times if counting.tuned),
        *(_score(counting, seed) for seed in times),
        *(step for seed in times for step in _selections(counting, seed, jobs)),
        *(_canaries(counting, jobs, planted) if planted else ()),
        *_label(counting, jobs, len(times)),
        *(train_step(counting, job) for job in jobs if job.arm.trained),
        *(_judge(counting, job) for job in jobs),
        Step("report", "report", len(jobs), fixed + each * len(jobs)),
    ]
    return [_measured(step, counting.rates, n) for n, step in enumerate(found, 1)]


def _measured(step: Step, rates: Rates, n: int) -> Step:
    """Numbered, and with the memory that a probe saw in the place of the estimate."""
    if peak := rates.peak.get(step.stage):
        return replace(step, memory_bytes=peak, memory="measured", n=n)
    return replace(step, n=n)


def _read(counting: Counting) -> Step:
    return Step("read", "pool", counting.grounds.pool, counting.grounds.holding.seconds)


def _tune(counting: Counting, seed: int) -> Step:
    """At most so much: a rate is given up after some epochs without progress."""
    grounds, pace = counting.grounds, counting.rates.tuning
    course = course_of(grounds.recipe.weak_train, grounds.trusted)
    seconds = 0.0
    if pace:
        seconds = pace.load + course.rows * pace.row + pace.save + course.read * pace.look
        seconds += course.steps * pace.step(padded(grounds.trusted, course.config))
    shape, view = counting.weak.shape, in_view(grounds.trusted)
    flops = None
    if shape:
        flops = training(shape, course.learnt, context=view)
        flops += forward(shape, course.read, context=view)
    positions = padded(grounds.trusted, course.config)
    memory = training_bytes(counting.weak, course.config, positions, lora=False, bf16=counting.bf16)
    return Step(
        "tune", f"weak seed {seed}", course.rows, seconds, course.learnt, flops, memory,
        models=1, steps=course.steps,
    )  # fmt: skip


def _score(counting: Counting, seed: int) -> Step:
    grounds, pace = counting.grounds, counting.rates.scoring
    lengths, scale = grounds.lengths, grounds.pool / max(len(grounds.lengths.rows), 1)
    read = scale * sum(float(each.sum()) for each in lengths.passes)
    tokens = scale * float(lengths.weak.sum()) * len(lengths.passes)
    shards = math.ceil(grounds.pool / SHARD_ROWS)
    cut, model = grounds.pool * pace.encode / shards, read * pace.token / shards
    seconds = pace.load + pace.start + pace.fixed + (shards - 1) * pace.shard
    seconds += cut + model + (shards - 1) * max(cut, model)  # the next shard is cut meanwhile
    if pace.exact:
        some = min(SAMPLE, grounds.pool) / grounds.pool
        seconds += some * read * (pace.exact + pace.token)
    shape = counting.weak.shape
    flops = forward(shape, tokens, context=in_view(lengths.weak)) if shape else None
    width = {"fp32": 4, "int8": 4}.get(pace.precision, 2)
    memory = reading_bytes(counting.weak, TOKENS, width=width)
    name = ",".join(grounds.picks.columns(f"-{seed}" if seed else ""))
    return Step("score", name, grounds.pool, seconds, tokens, flops, memory)


def _selections(counting: Counting, seed: int, jobs: Sequence[Job]) -> Iterator[Step]:
    """Every method at every budget that is asked for, with the controls drawn to the verdict's."""
    grounds, again = counting.grounds, f"-{seed}" if seed else ""
    pace, picks = counting.rates.scoring, grounds.picks
    mine = [job for job in jobs if job.seed == seed or not counting.tuned]
    drawn = {job.arm.selection.format(seed=job.seed) for job in mine if job.arm.rows == "selection"}
    wanted = {job.arm.selection for job in mine}
    for slug in picks.slugs:
        at = f"@{slug}" if slug else ""
        for name in picks.methods:
            if name != MAIN and f"{name}{at}" not in wanted:
                continue
            seconds = pace.select(grounds.pool) + _again(counting)
            if name == MAIN:
                own = {f"{each}{at}" for each in picks.methods}
                controls = [each for each in drawn - own if _slug(each) == slug]
                seconds += len(controls) * pace.control(grounds.pool)
            yield Step("select", f"{name}{at}{again}", grounds.pool, seconds)


def _canaries(counting: Counting, jobs: Sequence[Job], planted: int) -> Iterator[Step]:
    """Planted rows, taken to be as long as the pool's, against a selection of every kind."""
    grounds, pace, lengths = counting.grounds, counting.rates.scoring, counting.grounds.lengths
    stand = {MAIN, *(job.arm.selection.format(seed=0) for job in jobs)}
    rows, load = min(planted, grounds.pool) * len(ATTACKS), pace.load
    for name in grounds.picks.with_controls:
        if name not in stand:
            continue
        read = name in grounds.picks.methods and grounds.picks.methods[name].name != "random"
        passes = len(lengths.passes) if read else 0
        tokens = rows * float(lengths.weak.mean()) * passes
        seconds = pace.select(grounds.pool) + FILES + tokens * pace.token
        if name != "random-0":  # one load of the weak model serves all, and draws need none
            seconds, load = seconds + rows * pace.encode + load, 0.0
        shape = counting.weak.shape
        flops = forward(shape, tokens, context=in_view(lengths.weak)) if shape else None
        yield Step("canaries", name, rows, seconds, tokens if read else None,
                   flops if read else None)  # fmt: skip


def _slug(selection: str) -> str:
    """The budget in a selection's name."""
    return selection.partition("@")[2].rpartition("-")[0] or selection.partition("@")[2]


def _again(counting: Counting) -> float:
    """Seconds to put fast scores right in fp32 around the cut, and to audit them."""
    grounds, pace = counting.grounds, counting.rates.scoring
    if not pace.exact:
        return 0.0
    rows = min(grounds.pool, WALKED * block_rows(grounds.pool) + audit_rows(grounds.pool))
    each = sum(float(one.mean()) for one in grounds.lengths.passes if len(one))
    return pace.load + rows * each * pace.exact


def _label(counting: Counting, jobs: Sequence[Job], times: int) -> Iterator[Step]:
    """The weak model answers every prompt, where an arm learns from that."""
    asked = counting.rates.labelling
    if asked is None or not any(job.arm.rows == "relabelled" for job in jobs):
        return
    for seed in range(times):
        yield Step(
            "label", f"seed {seed}", counting.grounds.pool, asked.load + asked.untrained,
            asked.tokens, _answer_flops(counting.weak, asked, counting.grounds.pool),
            answering_bytes(counting.weak, 8192))  # fmt: skip


def train_step(counting: Counting, job: Job) -> Step:
    """One arm with one seed."""
    from pilotfish.data_order import rows_per_step

    pace, config = counting.rates.learning[key_of(job.config)], job.config
    mean, positions = float(job.lengths.mean()), padded(job.lengths, config)
    learnt = job.steps * rows_per_step(config) * mean
    seconds = pace.load + job.rows * pace.row + job.steps * pace.step(positions) + pace.save
    rates = config.learning_rate if isinstance(config.learning_rate, list) else []
    if rates and job.seed == 0:  # each of them is tried in full, and the best one trained again
        seconds += len(set(rates)) * (seconds - pace.save)
    if config.stop != "none":
        looks = min(20, job.steps) if config.stop_every is None else job.steps // config.stop_every
        held = min(config.stop_rows, job.rows // 5) * mean
        seconds += looks * held * pace.step.each / 3
    shape, view = counting.strong.shape, in_view(job.lengths)
    flops = training(shape, learnt, context=view, lora=counting.lora) if shape else None
    part = positions / config.gradient_accumulation_steps
    memory = training_bytes(counting.strong, config, part, lora=counting.lora, bf16=counting.bf16)
    return Step(
        "train", job.name, job.rows, seconds, learnt, flops, memory, models=1, steps=job.steps
    )


def _judge(counting: Counting, job: Job) -> Step:
    weak = job.arm.name == "weak"
    model = counting.weak if weak else counting.strong
    rates = counting.rates
    asked = rates.judging_weak if weak and rates.judging_weak else rates.judging
    rows = len(counting.grounds.holding.beside.test)
    seconds = asked.load + (asked.trained if job.arm.trained else asked.untrained)
    memory = answering_bytes(model, rows * (counting.prompt + counting.room))
    return Step(
        "judge", job.name, rows, seconds, asked.tokens, _answer_flops(model, asked, rows), memory
    )  # fmt: skip


def _answer_flops(model: Model, asked: Answering, rows: int) -> float | None:
    if model.shape is None or not rows:
        return None
    prompt, fresh = asked.prompt / rows, asked.fresh / rows
    return generation(model.shape, prompt, fresh, rows=rows)


def key_of(config: TrainConfig) -> str:
    """Names the settings that decide how long a step takes; equal ones are timed once."""
    deciding = {
        "loss", "teacher", "per_device_train_batch_size", "gradient_accumulation_steps", "focus",
        "max_length", "use_peft", "lora_r", "lora_target_modules", "bf16",
    }  # fmt: skip
    return config.model_dump_json(include=deciding)
