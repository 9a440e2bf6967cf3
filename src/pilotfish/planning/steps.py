"""The numbered steps of a run, with rows, tokens, FLOPs, memory and time of each."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pilotfish.arms.price import BATCH_TOKENS
from pilotfish.arms.selections import MAIN
from pilotfish.arms.workload import Job, ModelInfo, Workload, evaluation_flops, selection_kind
from pilotfish.comparison.arm_names import parse_arm_name
from pilotfish.config import WeakTrainConfig
from pilotfish.data.ingest import SHARD_ROWS
from pilotfish.planning.throughput import FILES, Rates, config_key, step_positions
from pilotfish.scoring.audit.remeasure import audit_rows, block_rows
from pilotfish.scoring.weak_model import SAMPLE

REPORT = (0.3, 0.03)  # seconds for the page, and for the resampling of every model
CPU_TOKENS = 2048  # of a forward pass, on a CPU
AUDIT_BLOCKS = 12  # blocks scored again in fp32 around the cuts, where few rows change sides
PROCESS_BYTES = 400 * 2**20  # Python, torch and transformers themselves
BLOCK_FLOATS = 2**24  # logits that training holds at a time


@dataclass(frozen=True)
class Step:
    """One step of a run. None: unknown, or not spent in this step."""

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
    n: int = 0  # 1-based


@dataclass(frozen=True)
class CostInputs:
    """The work of a run, and how fast this machine does it."""

    work: Workload
    rates: Rates
    bf16: bool  # whether the strong model is trained in bf16


def list_steps(costs: CostInputs, level: str) -> list[Step]:
    """List the steps of a run at one level of evidence, stage by stage, numbered from 1.

    Memory is what the probe measured of the stage, else an estimate from shapes.
    """
    work, jobs = costs.work, costs.work.jobs(level)
    times = range(work.seeds(level) if work.tuned else 1)
    fixed, each = REPORT
    steps = [
        Step("read", "pool", work.pool_rows, work.data.seconds),
        *(_tune(costs, seed) for seed in times if work.tuned),
        *(_score(costs, seed) for seed in times),
        *(step for seed in times for step in _select(costs, seed, jobs)),
        *_canaries(costs, level, jobs),
        *_label(costs, jobs, len(times)),
        *(train_step(costs, job) for job in jobs if job.arm.trained),
        *(_evaluate(costs, job) for job in jobs),
        Step("report", "report", len(jobs), fixed + each * len(jobs)),
    ]
    peak = costs.rates.peak
    return [
        replace(step, n=n, memory_bytes=peak[step.stage], memory="measured")
        if peak.get(step.stage)
        else replace(step, n=n)
        for n, step in enumerate(steps, 1)
    ]


def _tune(costs: CostInputs, seed: int) -> Step:
    """Count the tuning: an upper bound, since it may stop after epochs without progress."""
    work, rate, tuning = costs.work, costs.rates.tuning, costs.work.tuning
    positions, seconds = step_positions(work.trusted, tuning.config), 0.0
    if rate:
        seconds = rate.load + tuning.rows * rate.row + rate.save + tuning.held_out * rate.held_out
        seconds += tuning.steps * rate.step(positions)
    memory = training_bytes(work.weak, tuning.config, positions, lora=False, bf16=costs.bf16)
    return Step(
        "tune", f"weak seed {seed}", tuning.rows, seconds, tuning.learned,
        _known(work.weak, work.tuning_flops), memory, models=1, steps=tuning.steps,
    )  # fmt: skip


def _score(costs: CostInputs, seed: int) -> Step:
    """Count scoring, in which the next shard is tokenized while the model reads one."""
    work, rate = costs.work, costs.rates.scoring
    lengths, rows = work.lengths, work.pool_rows
    read = rows / max(len(lengths.rows), 1) * sum(float(each.sum()) for each in lengths.passes)
    shards = math.ceil(rows / SHARD_ROWS)
    encode, model = rows * rate.encode / shards, read * rate.token / shards
    seconds = rate.load + rate.start + rate.fixed + (shards - 1) * rate.shard
    seconds += encode + model + (shards - 1) * max(encode, model)
    if rate.exact:
        seconds += min(SAMPLE, rows) / rows * read * (rate.exact + rate.token)
    width = {"fp32": 4, "int8": 4}.get(rate.precision, 2)
    tokens, columns = work.scored_tokens, work.selections.columns(f"-{seed}" if seed else "")
    return Step(
        "score", ",".join(columns), rows, seconds, tokens,
        _known(work.weak, work.reading_flops(tokens)),
        reading_bytes(work.weak, CPU_TOKENS, width=width),
    )  # fmt: skip


def _select(costs: CostInputs, seed: int, jobs: Sequence[Job]) -> Iterator[Step]:
    """Yield every method at every budget; a budget's controls are drawn with its main method.

    Fast scores are first audited: measured again in fp32 around the cut.
    """
    work, rate, again = costs.work, costs.rates.scoring, f"-{seed}" if seed else ""
    rows, audit = work.pool_rows, 0.0
    if rate.exact:
        audited = min(rows, AUDIT_BLOCKS * block_rows(rows) + audit_rows(rows))
        each = sum(float(one.mean()) for one in work.lengths.passes if len(one))
        audit = rate.load + audited * each * rate.exact
    mine = [job for job in jobs if job.arm.spends and (job.seed == seed or not work.tuned)]
    wanted = {job.arm.selection for job in mine}
    for slug in work.selections.slugs:
        at = f"@{slug}" if slug else ""
        controls = {
            job.arm.selection.format(seed=job.seed) for job in mine
            if parse_arm_name(job.arm.name).budget == slug
            and selection_kind(job.arm.selection) not in work.selections.methods
        }  # fmt: skip
        for name in work.selections.methods:
            if name == MAIN or f"{name}{at}" in wanted:
                made = 1 + (len(controls) if name == MAIN else 0)
                yield Step("select", f"{name}{at}{again}", rows, audit + made * rate.select(rows))


def _canaries(costs: CostInputs, level: str, jobs: Sequence[Job]) -> Iterator[Step]:
    """Yield the canary checks: attack rows scored for each selection; the model is loaded once."""
    work, rate = costs.work, costs.rates.scoring
    load = rate.load
    for name, rows, tokens in work.canaries(level, jobs):
        seconds = rate.select(work.pool_rows) + FILES + (tokens or 0.0) * rate.token
        if name != "random-0":  # a random draw needs no model
            seconds, load = seconds + rows * rate.encode + load, 0.0
        flops = None if tokens is None else _known(work.weak, work.reading_flops(tokens))
        yield Step("canaries", name, rows, seconds, tokens, flops)


def _label(costs: CostInputs, jobs: Sequence[Job], times: int) -> Iterator[Step]:
    """Yield the weak model's answers to every prompt, where an arm trains on them."""
    work, rate = costs.work, costs.rates.labeling
    if rate is None or not any(job.arm.rows == "relabelled" for job in jobs):
        return
    rows, tokens = work.pool_rows, rate.read_tokens + rate.new_tokens
    flops = evaluation_flops(work.weak, rows, rate.read_tokens, rate.new_tokens)
    memory = generation_bytes(work.weak, BATCH_TOKENS)
    for seed in range(times):
        yield Step("label", f"seed {seed}", rows, rate.load + rate.untrained, tokens, flops, memory)


def train_step(costs: CostInputs, job: Job) -> Step:
    """Count one arm with one seed, learning rates to choose from and held-out losses included."""
    work, config = costs.work, job.config
    rate = costs.rates.training[config_key(config)]
    positions = step_positions(job.lengths, config)
    seconds = rate.load + job.rows * rate.row + job.steps * rate.step(positions) + rate.save
    seconds += job.tried_rates * (seconds - rate.save)
    if config.stop != "none":
        every = config.stop_every
        checks = min(20, job.steps) if every is None else job.steps // every
        held_out = min(config.stop_rows, job.rows // 5) * float(job.lengths.mean())
        seconds += checks * held_out * rate.step.each / 3
    memory = training_bytes(
        work.strong, config, positions / config.gradient_accumulation_steps,
        lora=work.lora, bf16=costs.bf16,
    )  # fmt: skip
    flops = _known(work.strong, work.training_flops(job))
    return Step(
        "train", job.name, job.rows, seconds, job.tokens, flops, memory, models=1, steps=job.steps
    )


def _evaluate(costs: CostInputs, job: Job) -> Step:
    work, rates, weak = costs.work, costs.rates, job.arm.name == "weak"
    model = work.weak if weak else work.strong
    rate = rates.weak_evaluation if weak and rates.weak_evaluation else rates.evaluation
    rows = work.test.rows
    return Step(
        "judge", job.name, rows,
        rate.load + (rate.trained if job.arm.trained else rate.untrained),
        rate.read_tokens + rate.new_tokens,
        evaluation_flops(model, rows, rate.read_tokens, rate.new_tokens),
        generation_bytes(model, rows * (work.test.prompt + work.test.room)),
    )  # fmt: skip


def _known(model: ModelInfo, flops: float) -> float | None:
    """Return the FLOPs; None where the model's config does not give its shape."""
    return None if model.known_shape is None else flops


def reading_bytes(model: ModelInfo, tokens: int, *, width: int = 4) -> int:
    """Estimate the memory of a forward pass: weights, and the widest point of one layer.

    Args:
        model: The model that reads.
        tokens: Tokens of one pass.
        width: Bytes of a number.
    """
    return PROCESS_BYTES + width * (model.parameters + tokens * _layer_floats(model))


def training_bytes(
    model: ModelInfo, config: WeakTrainConfig, positions: float, *, lora: bool, bf16: bool
) -> int:
    """Estimate the memory of training: weights, gradients, AdamW's moments, and activations.

    Under LoRA the base has neither gradients nor moments, and is held in bf16 where activations
    are. Adapters of every linear map of a layer have about 18 widths times the rank parameters.

    Args:
        model: The model that is trained.
        config: Gives the LoRA rank.
        positions: Padded positions of one micro-batch.
        lora: Whether only adapters are trained.
        bf16: Whether activations are bf16.
    """
    shape = model.known_shape
    width, layers, vocab = (shape.width, shape.layers, shape.vocab) if shape else (0, 12, 0)
    trained = int(config.lora_r * 18 * width * layers) if lora else model.parameters
    weights = model.parameters * (2 if lora and bf16 else 4)
    kept = positions * _layer_floats(model) * layers * (2 if bf16 else 4)
    logits = 3 * 4 * min(positions * vocab, BLOCK_FLOATS)
    states = 12 * trained + (4 * trained if lora else 0)
    return int(PROCESS_BYTES + weights + states + kept + logits)


def generation_bytes(model: ModelInfo, tokens: float) -> int:
    """Estimate the memory of greedy answers: weights, keys and values of `tokens` in a batch."""
    shape = model.known_shape
    kept = 2 * shape.layers * shape.width * tokens if shape else 0
    return int(PROCESS_BYTES + 4 * (model.parameters + kept))


def _layer_floats(model: ModelInfo) -> int:
    """Floats of one token in one layer: residual, attention and a body four times as wide."""
    return 28 * model.shape.width
