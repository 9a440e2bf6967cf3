"""The speed of the stages of a run: measured by the probe, or computed from FLOPs.

Rates hold seconds per row, token, padded position or file; steps.py multiplies them by the work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pilotfish.arms.arms import Arm, grid_for
from pilotfish.arms.price import MachineSpeed, Pace, load_seconds, machine_speed, save_seconds
from pilotfish.arms.workload import EvalWork, ModelInfo, Workload
from pilotfish.config import SEEDS, TrainConfig
from pilotfish.records import Ints

FILES = 0.1  # seconds around a stage: manifests, digests, forcing to disk
TOKENIZE_ROW = 1e-4  # seconds to tokenize a row
SELECT_ROW = 1e-5  # seconds a row more takes to be ranked and written down; benchmarks/memory.py


@dataclass(frozen=True)
class ScoringRate:
    """The weak model reads the pool, and rows are selected by what it measured."""

    load: float  # seconds to read the weights and their digest
    start: float  # seconds once: memory, compilation, the first kernels
    encode: float  # seconds per row to tokenize it for every need
    token: float  # seconds per token that a forward pass reads
    shard: float  # seconds to write what was measured of one shard
    fixed: float  # seconds for the files and manifests around it all
    select: Pace  # by pool rows: rank them and write every decision, or draw a control
    precision: str = "fp32"
    exact: float = 0.0  # seconds per token in fp32, where a faster format is checked against it


@dataclass(frozen=True)
class TrainingRate:
    """A model is trained or tuned."""

    load: float  # seconds
    row: float  # seconds per row to tokenize it
    step: Pace  # by padded positions: seconds of one optimizer step
    save: float  # seconds
    held_out: float = 0.0  # seconds per token of a held-out loss


@dataclass(frozen=True)
class EvalRate:
    """A model is evaluated: seconds for a whole set of rows."""

    load: float
    trained: float  # by a model that ends its answers where the expected ones end
    untrained: float  # by a model that may go on to the end of the room
    read_tokens: float
    new_tokens: float


@dataclass(frozen=True)
class Rates:
    """The speed of every stage."""

    how: str  # probe | formula
    note: str  # the same as a sentence
    scoring: ScoringRate
    training: Mapping[str, TrainingRate]  # by `config_key`
    evaluation: EvalRate
    tuning: TrainingRate | None = None
    weak_evaluation: EvalRate | None = None
    labeling: EvalRate | None = None  # the weak model answers the whole pool
    peak: Mapping[str, int] = field(default_factory=dict)  # stage -> bytes measured
    facts: Mapping[str, Any] = field(default_factory=dict)  # what was measured, as numbers

    def as_dict(self) -> dict[str, Any]:
        """Return the measurements for `--json`."""
        steps = [
            {"fixed_seconds": each.step.fixed, "seconds_per_position": each.step.each}
            for each in self.training.values()
        ]
        evaluation = self.evaluation
        return {
            **self.facts,
            "how": self.how,
            "precision": self.scoring.precision,
            "scored_tokens_per_second": 1 / self.scoring.token if self.scoring.token else None,
            "steps": steps,
            "judge_seconds": {"trained": evaluation.trained, "untrained": evaluation.untrained},
        }


def formula_rates(work: Workload) -> Rates:
    """Compute rates from FLOPs and the speed of a matrix product; no model is loaded."""
    machine, weak, strong = machine_speed(), work.weak, work.strong
    token = machine.forward(weak.shape)
    training = TrainingRate(
        load_seconds(strong), TOKENIZE_ROW,
        machine.step(strong.shape, parameters=strong.parameters, lora=work.lora),
        save_seconds(strong),
    )  # fmt: skip
    tuning = TrainingRate(
        load_seconds(weak), TOKENIZE_ROW,
        machine.step(weak.shape, parameters=weak.parameters, lora=False),
        save_seconds(weak), token,
    )  # fmt: skip
    return Rates(
        "formula",
        "estimated from FLOPs and the measured speed of a matrix product, without a probe: an "
        "order of magnitude",
        ScoringRate(
            load_seconds(weak), FILES, TOKENIZE_ROW, token, FILES, FILES, Pace(FILES, SELECT_ROW)
        ),
        {config_key(config): training for config in training_kinds(work)},
        _evaluation_by_formula(machine, strong, work.test),
        tuning,
        _evaluation_by_formula(machine, weak, work.test),
        _evaluation_by_formula(machine, weak, work.labeling),
        facts={"matmul_flops": machine.flops, "operation_seconds": machine.operation},
    )


def _evaluation_by_formula(machine: MachineSpeed, model: ModelInfo, rows: EvalWork) -> EvalRate:
    trained, untrained = (
        machine.evaluation(model, rows, trained=trained) for trained in (True, False)
    )
    return EvalRate(load_seconds(model), trained, untrained, rows.read_tokens, rows.new_tokens)


def all_arms(work: Workload) -> list[Arm]:
    """Return the arms of every level of evidence."""
    return [arm for level in SEEDS for arm in grid_for(work.recipe, level)]


def training_kinds(work: Workload) -> list[TrainConfig]:
    """Return one of each kind of training that any level of evidence has."""
    configs = [arm.config(work.recipe.train) for arm in all_arms(work) if arm.trained]
    return list({config_key(config): config for config in configs}.values())


def config_key(config: TrainConfig) -> str:
    """Name the settings that decide how long a step takes; equal ones are timed once."""
    deciding = {
        "loss", "teacher", "per_device_train_batch_size", "gradient_accumulation_steps", "focus",
        "max_length", "use_peft", "lora_r", "lora_target_modules", "bf16",
    }  # fmt: skip
    return config.model_dump_json(include=deciding)


def step_positions(lengths: Ints, config: TrainConfig, *, draws: int = 64) -> float:
    """Average the padded positions of an optimizer step over some draws, always the same ones.

    Args:
        lengths: [k] tokens of the rows to draw from; rows of 0 tokens are left out.
        config: Gives the size of a micro-batch and how many of them a step takes.
        draws: Steps to average over.
    """
    from pilotfish.data_order import rows_per_step

    known = lengths[lengths > 0]
    if not len(known):
        return 0.0
    rng, size = np.random.default_rng(0), rows_per_step(config)
    drawn = (known[rng.integers(0, len(known), size)].tolist() for _ in range(draws))
    return sum(padded_positions(each, config) for each in drawn) / draws


def padded_positions(lengths: Sequence[int], config: TrainConfig) -> float:
    """Count the positions of one step, padding included, cut into micro-batches as in training."""
    from pilotfish.data_order import micro_batches

    cut = micro_batches(range(len(lengths)), lengths, config.per_device_train_batch_size)
    return float(sum(len(part) * max(lengths[i] for i in part) for part in cut))
