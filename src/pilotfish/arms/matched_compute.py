"""What arms are matched on: optimizer steps, epochs, or the FLOPs that the selection cost."""

import math
from dataclasses import dataclass

from pilotfish import flops
from pilotfish.arms.arms import Arm
from pilotfish.arms.training_data import TrainingPlan, selection_name_of
from pilotfish.config import Method, Recipe
from pilotfish.data import Pool
from pilotfish.errors import UsageError
from pilotfish.methods import make
from pilotfish.selection.candidates import candidates_of
from pilotfish.store import Run

_SAMPLE = 200


@dataclass(frozen=True)
class MatchedCompute:
    """FLOPs of making the selection, and of training on the selected rows."""

    selection: float
    training: float

    @property
    def more(self) -> float:
        """Share by which rows and steps may grow until both sides cost the same."""
        return self.selection / self.training


def steps_of(run: Run, arm: Arm, seed: int, plan: TrainingPlan, pool_rows: int) -> int:
    """Return the optimizer steps of one arm with one seed.

    Args:
        run: The run with the selections.
        arm: The arm.
        seed: Number of the seed.
        plan: What all arms share, the number of steps included.
        pool_rows: Rows of the pool.

    Raises:
        UsageError: The arm is matched on epochs or compute, and a selection is missing for that.
    """
    shared = plan.steps or 1
    if arm.steps == "equal":
        return shared
    name = selection_name_of(run, arm, seed, tuned=plan.tuned) if arm.selection else ""
    section = run.section("selections")
    for needed in filter(None, ("selected", name)):
        if needed not in section:
            raise UsageError(
                f"the arm '{arm.name}' needs the selection '{needed}', which {run.root} lacks",
                hint="`pilotfish compare RECIPE` makes it, with `matched_on` in the recipe",
            )
    if arm.steps == "compute":
        # a pool without enough rows is trained on more often
        return max(1, round(shared * (1 + float(section[name]["more"]))))
    rows = len(plan.trusted) if arm.trusted else 0
    if name:
        rows += int(section[name]["delivered"])
    elif arm.rows != "none":
        rows += pool_rows
    return max(1, math.ceil(shared * rows / int(section["selected"]["delivered"])))


def matched_compute(
    run: Run, pool: Pool, recipe: Recipe, method: Method, *, steps: int
) -> MatchedCompute:
    """Count the FLOPs of the selection and of the strong model's training on it.

    They follow from model shapes and row lengths, so every resume counts the same. Scoring reads
    every row once per condition of the method; tuning is in the manifest of the weak model. A
    token attends to half a row on average.

    Args:
        run: The run with the selection.
        pool: Its pool.
        recipe: Models and training settings.
        method: The method of the selection.
        steps: Optimizer steps of the selected arm.

    Raises:
        UsageError: The config of a model does not give its shape.
    """
    from pilotfish.data_order import rows_per_step
    from pilotfish.models import count_parameters, load_tokenizer
    from pilotfish.tokenization import encode_training
    from pilotfish.training.setup import learns_lora

    weak, strong = shape_of(recipe.weak), shape_of(recipe.strong)
    prompt = answer = 0.0
    for prompts, answers in candidates_of(run).need_counts("equal compute"):
        prompt, answer = prompt + int(prompts.sum()), answer + int(answers.sum())
    context = (prompt + answer) / max(len(pool), 1) / 2
    conditions = sorted({need.given for need in make(method).needs})
    scored = math.fsum(
        flops.forward(weak, prompt + answer if given == "prompt" else answer, context=context)
        for given in conditions
    )
    tuned = float((run.store.read_json("weak/manifest.json") or {}).get("flops") or 0.0)

    config = recipe.train
    rows = pool.take(range(0, len(pool), max(1, len(pool) // _SAMPLE)))
    encoded = encode_training(rows, load_tokenizer(recipe.strong), config.max_length)
    per_row = sum(len(row.ids) for row in encoded) / max(len(encoded), 1)
    lora = learns_lora(config, count_parameters(recipe.strong))
    learned = steps * rows_per_step(config) * per_row
    trained = flops.training(strong, learned, context=per_row / 2, lora=lora)
    return MatchedCompute(scored + tuned, trained)


def shape_of(model: str) -> flops.Shape:
    """Read the shape of a model from its config.

    Raises:
        UsageError: The config does not give the shape.
    """
    from pilotfish.models import config_of, count_parameters

    try:
        return flops.Shape.of(config_of(model).to_dict(), count_parameters(model))
    except KeyError as error:
        raise UsageError(
            f"equal compute needs FLOPs, which the config of {model} does not give: {error}",
            hint="leave `compute` out of `matched_on`",
        ) from error
