"""Rates without a probe: FLOPs over the speed of a matrix product; an order of magnitude."""

from collections.abc import Sequence
from dataclasses import dataclass

from pilotfish.config import TrainConfig
from pilotfish.flows.plan_models import Grounds
from pilotfish.flows.plan_rates import (
    FILES,
    SELECT_ROW,
    Answering,
    Learning,
    Machine,
    Pace,
    Rates,
    Scoring,
    loading,
    machine_speed,
    saving,
)
from pilotfish.flows.plan_steps import key_of
from pilotfish.flows.plan_tokens import Model

ROW = 1e-4  # seconds to cut a row into tokens


@dataclass(frozen=True)
class Judging:
    """What is asked: rows, and mean tokens of their prompts, answers, and room for an answer."""

    metric: str
    rows: int
    prompt: float
    answer: float
    room: float


def formula(
    grounds: Grounds,
    models: tuple[Model, Model],
    configs: Sequence[TrainConfig],
    judging: Judging,
    *,
    lora: bool,
) -> Rates:
    """Rates of (weak, strong), from their shapes and a tenth of a second of matrix products."""
    machine = machine_speed()
    weak, strong = models
    score = Scoring(
        loading(weak), FILES, ROW, machine.forward(weak.shape, parameters=weak.parameters), FILES,
        FILES, Pace(FILES, SELECT_ROW), Pace(FILES, SELECT_ROW),
    )  # fmt: skip
    step = machine.step(strong.shape, parameters=strong.parameters, lora=lora)
    learning = Learning(loading(strong), ROW, step, saving(strong))
    tuning = Learning(
        loading(weak), ROW, machine.step(weak.shape, parameters=weak.parameters, lora=False),
        saving(weak), score.token,
    )  # fmt: skip
    pool = Judging("exact_match", grounds.pool, judging.prompt, judging.answer, judging.room)
    return Rates(
        "formula",
        "estimated from FLOPs and the measured speed of a matrix product, without a probe: an "
        "order of magnitude",
        score,
        {key_of(config): learning for config in configs},
        _answering(machine, strong, judging),
        tuning,
        _answering(machine, weak, judging),
        _answering(machine, weak, pool),
        facts={"matmul_flops": machine.flops, "operation_seconds": machine.operation},
    )


def _answering(machine: Machine, model: Model, judging: Judging) -> Answering:
    rows, written = judging.rows, judging.metric == "exact_match"
    prompt, load = rows * (judging.prompt + (0 if written else judging.answer)), loading(model)
    if not written:
        seconds = prompt * machine.forward(model.shape, parameters=model.parameters)
        return Answering(load, seconds, seconds, prompt, 0.0)
    known = {"parameters": model.parameters, "rows": rows}
    trained, untrained = (
        machine.answers(model.shape, prompt=judging.prompt, room=room, **known)
        for room in (judging.answer + 1, judging.room)
    )
    return Answering(load, trained, untrained, prompt, rows * judging.answer)
