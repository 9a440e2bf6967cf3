"""What is held equal: how long each arm learns, and what the selection's FLOPs would buy."""

import math
from dataclasses import dataclass

from pilotfish import flops
from pilotfish.arms.arms import Arm
from pilotfish.arms.rows import TrainingPlan, selection_name_of
from pilotfish.config import Method, Recipe, TrainConfig
from pilotfish.data import Pool
from pilotfish.errors import UsageError
from pilotfish.methods import make
from pilotfish.selection.candidates import candidates_of
from pilotfish.store import Run

_SAMPLE = 200


@dataclass(frozen=True)
class MatchedCompute:
    """FLOPs of arriving at the selection, and of training on what it picked."""

    selection: float
    training: float

    @property
    def more(self) -> float:
        """By what share rows and steps may grow until both sides cost the same."""
        return self.selection / self.training


def steps_of(run: Run, arm: Arm, seed: int, training: TrainingPlan, pool_rows: int) -> int:
    """Optimizer steps of one arm: those that all share, or as many as make something else equal.

    UsageError for an arm of equal epochs or compute in a run that lacks the selections they go by.
    """
    shared = training.steps or 1
    if arm.steps == "equal":
        return shared
    name = selection_name_of(run, arm, seed, tuned=training.tuned) if arm.selection else ""
    section = run.section("selections")
    for needed in filter(None, ("selected", name)):
        if needed not in section:
            raise UsageError(
                f"the arm '{arm.name}' goes by the selection '{needed}', which {run.root} lacks",
                hint="such arms are made by `pilotfish compare RECIPE`, with `equal` in the recipe",
            )
    if arm.steps == "compute":
        # also where the pool has no more rows: then more often
        return max(1, round(shared * (1 + float(section[name]["more"]))))
    rows = len(training.trusted) if arm.trusted else 0
    if name:
        rows += int(section[name]["delivered"])
    elif arm.rows != "none":
        rows += pool_rows
    return max(1, math.ceil(shared * rows / int(section["selected"]["delivered"])))


def matched_compute(
    run: Run, pool: Pool, recipe: Recipe, method: Method, *, steps: int
) -> MatchedCompute:
    """What the selection cost against what the strong model's training does."""
    from pilotfish.models import count_parameters
    from pilotfish.training.setup import learns_lora

    return compute_of(
        run, pool, method, models=(shape_named(recipe.weak), shape_named(recipe.strong)),
        steps=steps, config=recipe.train,
        lora=learns_lora(recipe.train, count_parameters(recipe.strong)),
        tokens=tokens_per_row(pool, recipe.strong, recipe.train.max_length),
    )  # fmt: skip


def compute_of(
    run: Run,
    pool: Pool,
    method: Method,
    *,
    models: tuple[flops.Shape, flops.Shape],
    steps: int,
    config: TrainConfig,
    lora: bool,
    tokens: float,
) -> MatchedCompute:
    """From the shapes of (weak, strong) and the lengths of the rows; the same on every resume.

    tokens: of a mean row as the strong model is taught it. Scoring reads every row once for each
    condition that the method needs; tuning stands in its own manifest. Attention is counted at
    half a row.
    """
    from pilotfish.data_order import rows_per_step

    weak, strong = models
    learnt = steps * rows_per_step(config) * tokens
    spent = flops.training(strong, learnt, context=tokens / 2, lora=lora)
    return MatchedCompute(_scored(run, pool, method, weak) + _tuned(run), spent)


def shape_named(model: str) -> flops.Shape:
    """The shape of a model by its config; UsageError where that does not tell it."""
    from pilotfish.models import config_of, count_parameters

    try:
        return flops.Shape.of(config_of(model).to_dict(), count_parameters(model))
    except KeyError as error:
        raise UsageError(
            f"equal compute needs FLOPs, which the config of {model} does not tell: {error}",
            hint="leave `compute` out of `equal`",
        ) from error


def tokens_per_row(pool: Pool, model: str, max_length: int) -> float:
    """Mean tokens of a pool row as `model` is taught it, over at most 200 evenly spaced rows."""
    from pilotfish.models import load_tokenizer
    from pilotfish.tokenization import encode_training

    rows = pool.take(range(0, len(pool), max(1, len(pool) // _SAMPLE)))
    lengths = [len(row.ids) for row in encode_training(rows, load_tokenizer(model), max_length)]
    return sum(lengths) / max(len(lengths), 1)


def _scored(run: Run, pool: Pool, method: Method, weak: flops.Shape) -> float:
    counts = list(candidates_of(run).need_counts("equal compute"))
    prompt = float(sum(int(asked.sum()) for asked, _ in counts))
    answer = float(sum(int(said.sum()) for _, said in counts))
    given = {need.given for need in make(method).needs}
    read = [prompt + answer if each == "prompt" else answer for each in sorted(given)]
    context = (prompt + answer) / max(len(pool), 1) / 2
    return math.fsum(flops.forward(weak, tokens, context=context) for tokens in read)


def _tuned(run: Run) -> float:
    found = run.store.read_json("weak/manifest.json") or {}
    return float(found.get("flops") or 0.0)
