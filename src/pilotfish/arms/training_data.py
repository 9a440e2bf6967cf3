"""Training data of an arm: its rows with their sources and weights, targets, validation rows."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pilotfish.arms.arms import Arm
from pilotfish.config import LabelConfig, Recipe, TrainConfig
from pilotfish.data import Pool, overlap_keys
from pilotfish.data.held_out import hold_out, stored_test_rows
from pilotfish.data.run_pool import pool_of, read_extra_rows, source_of_run
from pilotfish.errors import DataError, UsageError
from pilotfish.flops import answering_flops, known
from pilotfish.labeling.predict import predict_labels, with_answer
from pilotfish.labeling.settings import LONGEST_ANSWER, token_lengths
from pilotfish.records import Example, Floats, Ints
from pilotfish.run_context import RunContext
from pilotfish.selection.files import kept_of
from pilotfish.store import Run

if TYPE_CHECKING:
    from pilotfish.models import Loaded
    from pilotfish.training.data.row_weights import RowInfo
    from pilotfish.training.validation import Validation

POOL, GOLD, REPLAY = "pool", "gold", "replay"  # sources of rows, as the training loop names them
SAMPLE = 2000  # texts whose lengths bound the answers of the weak model


def seed_stream(base: int, seed: int) -> int:
    """Return the seed of the random draws of one seed of a comparison.

    Args:
        base: The `seed` of the recipe.
        seed: Number of the seed in the comparison, from 0.
    """
    return 1000 * base + seed


@dataclass(frozen=True)
class TrainingPlan:
    """What the training of all arms of a comparison shares.

    Attributes:
        strong: Name or folder of the strong model.
        strong_digest: Digest of its weights.
        config: Training settings; an arm may change some.
        weak: Loads the weak model of a seed, which teaches and labels.
        trusted: The trusted rows.
        tuned: Whether the weak model is tuned on trusted rows, and so selects again for every seed.
        seed: The recipe's seed, which shifts every draw.
        steps: Optimizer steps of every arm; None: as many as the rows are worth.
    """

    strong: str
    strong_digest: str
    config: TrainConfig
    weak: "Callable[[int], Loaded]"
    trusted: Sequence[Example] = ()
    tuned: bool = False
    seed: int = 0
    steps: int | None = None

    def stream(self, seed: int) -> int:
        """Return the seed of the random draws of one seed of the comparison."""
        return seed_stream(self.seed, seed)


@dataclass(frozen=True)
class ClassTargets:
    """What a classifier learns to predict.

    Attributes:
        classes: Names of the K classes, in the order of the model's outputs.
        targets: [n] class indices, or [n, K] probabilities for losses that learn from a teacher.
        validation: Held-out rows with targets of their own, to choose the weights that are kept.
    """

    classes: Sequence[str]
    targets: Ints | Floats
    validation: "Validation | None" = None


@dataclass(frozen=True)
class TrainingData:
    """Everything that one model is trained on.

    Attributes:
        rows: Training rows; a language model learns to write their answers.
        sources: Where each row comes from (POOL, GOLD or REPLAY), in the order of the rows.
        weights: What each row counts; empty: 1 each.
        validation: Held-out rows by the source of their labels, "weak" or "gold". No training row
            has the prompt of one of them.
        labels: Targets of a classifier; None: a language model is trained.
    """

    rows: Sequence[Example]
    sources: Sequence[str]
    weights: Sequence[float] = ()
    validation: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    labels: ClassTargets | None = None

    @property
    def known(self) -> "RowInfo | None":
        """Sources and weights for training; None where all rows are of the pool and count 1."""
        from pilotfish.training.data.row_weights import RowInfo

        if not self.weights and set(self.sources) <= {POOL}:
            return None
        return RowInfo(self.sources, self.weights)

    def without(self, held_out: Sequence[Example]) -> "TrainingData":
        """Drop the rows that have the prompt of a held-out row."""
        prompts = overlap_keys(held_out)
        kept = [i for i, row in enumerate(self.rows) if not overlap_keys([row]) & prompts]
        return replace(
            self,
            rows=[self.rows[i] for i in kept],
            sources=[self.sources[i] for i in kept],
            weights=[self.weights[i] for i in kept] if self.weights else (),
        )

    def count(self, source: str) -> int:
        """Count the rows of one source."""
        return self.sources.count(source)


def selection_name_of(run: Run, arm: Arm, seed: int, *, tuned: bool) -> str:
    """Return the name of the selection that an arm trains on with one seed.

    Args:
        run: The run with the selections.
        arm: The arm.
        seed: Number of the seed.
        tuned: Whether the weak model selects again for every seed.
    """
    name = arm.selection.format(seed=seed)
    own = f"{name}-{seed}"
    selects_again = tuned and seed and name == arm.selection
    return own if selects_again and own in run.section("selections") else name


def training_data_of(ctx: RunContext, arm: Arm, seed: int, plan: TrainingPlan) -> TrainingData:
    """Collect the rows of an arm, hold out validation rows, and weigh the rest, by its settings.

    The order is: pool rows, trusted rows, replay rows. All are in memory, for arms of `all` the
    whole pool.

    Args:
        ctx: The run with the arm's selection.
        arm: The arm.
        seed: Number of the seed.
        plan: What all arms share.

    Raises:
        UsageError: Early stopping needs held-out rows, and there are too few.
        DataError: A row has no usable weight in the column of weights.
    """
    config, run, pool, rows = arm.config(plan.config), ctx.run, pool_of(ctx.run), list[Example]()
    if arm.rows == "selection":
        rows = pool.take(kept_of(run, selection_name_of(run, arm, seed, tuned=plan.tuned)))
    elif arm.rows == "all":
        rows = list(pool.examples())
    elif arm.rows == "relabelled":
        rows = relabelled(ctx, pool, seed if plan.tuned else 0, plan)
    sources = [POOL] * len(rows)
    if arm.trusted:
        # ids of two files may be the same, and the order of training depends on ids
        rows += [replace(row, id=f"trusted:{row.id}") for row in plan.trusted]
        sources += [GOLD] * len(plan.trusted)
    if config.replay:
        old = [replace(row, id=f"replay:{row.id}") for row in replay_rows(run, config.replay)]
        rows, sources = rows + old, sources + [REPLAY] * len(old)
    data = TrainingData(rows, sources)
    if config.stop != "none":
        data = _with_validation(data, plan, config, seed)
    if not config.weights:
        return data
    pairs = zip(data.rows, data.sources, strict=True)
    weights = [_weight(row, config.weights) if source == POOL else 1.0 for row, source in pairs]
    return replace(data, weights=weights)


def relabelled(ctx: RunContext, pool: Pool, seed: int, plan: TrainingPlan) -> list[Example]:
    """Answer every prompt of the pool with the weak model, or read labels/seed-<n>.json.

    Rows without a prompt, and rows that the model answers with nothing, are left out.

    Args:
        ctx: The run.
        pool: Its pool.
        seed: Number of the seed whose weak model answers, greedily.
        plan: Loads the weak model.
    """
    weak, store = plan.weak(seed), ctx.store
    examples = [example for example in pool.examples() if example.turns or example.label]
    path, manifest = f"labels/seed-{seed}.json", f"labels/seed-{seed}-manifest.json"
    made_from = {"weak": weak.digest, "pool": pool.fingerprint}
    if not store.holds(manifest, {"made_from": made_from}):
        ctx.progress.note(f"the weak model answers all {len(examples):,} prompts (seed {seed})")
        start = time.monotonic()
        lengths = token_lengths([row.response for row in examples[:SAMPLE]], weak)
        # as long as nearly all answers of the pool are
        room = min(lengths[int(0.99 * (len(lengths) - 1))] + 4, LONGEST_ANSWER) if lengths else 1
        config = LabelConfig(kind="hard", classes=[], max_new_tokens=room)
        answers = [str(label) for label in predict_labels(examples, weak, config).labels.label]
        prompts = ["".join(turn.content for turn in row.prompt) for row in examples[:SAMPLE]]
        read = token_lengths(prompts, weak)
        flops = answering_flops(weak, len(examples), sum(read) / max(len(read), 1), room)
        ctx.run.cost(
            "label", f"seed {seed}", seconds=time.monotonic() - start, rows=len(examples),
            **known(flops=flops),
        )  # fmt: skip
        with store.attempt(manifest) as attempt:
            attempt.path(path).write_text(json.dumps(answers), encoding="utf-8")
            attempt.meta = {"made_from": made_from}
    answers = json.loads(store.path(path).read_text(encoding="utf-8"))
    pairs = zip(examples, answers, strict=True)
    return [with_answer(example, answer) for example, answer in pairs if answer]


def replay_rows(run: Run, data: str, *, limit: int | None = None) -> list[Example]:
    """Read the rows of `train.replay`, without those of the run's test data."""
    prompts = overlap_keys(stored_test_rows(run))
    return list(read_extra_rows(source_of_run(run), data, exclude=prompts, limit=limit).examples)


def hold_out_gold(plan: TrainingPlan) -> list[Example]:
    """Hold out a fifth of the trusted rows, the same for all arms and seeds of a comparison."""
    count = max(1, len(plan.trusted) // 5)
    return hold_out(plan.trusted, count, plan.stream(0))[1]


def _with_validation(
    data: TrainingData, plan: TrainingPlan, config: TrainConfig, seed: int
) -> TrainingData:
    """Hold out rows of the arm, and trusted rows if there are any; each set gives a curve."""
    validation: dict[str, list[Example]] = {}
    if len(plan.trusted) > 1:
        validation["gold"] = hold_out_gold(plan)
        data = data.without(validation["gold"])
    by_source: dict[str, list[Example]] = {POOL: [], GOLD: [], REPLAY: []}
    for row, source in zip(data.rows, data.sources, strict=True):
        by_source[source].append(row)
    own = by_source[POOL] or by_source[GOLD]
    count = min(config.stop_rows, len(own) // 5)
    if count:
        validation["weak"] = hold_out(own, count, plan.stream(seed))[1]
        data = data.without(validation["weak"])
    if config.stop not in validation or not data.rows:
        few = "trusted rows" if config.stop == "gold" else "rows of the arm"
        raise UsageError(
            f"train.stop={config.stop} holds out some {few}, and there are too few",
            hint="give more rows, or pass --set train.stop=none",
        )
    return replace(data, validation=validation)


def _weight(row: Example, column: str) -> float:
    """Return the weight of a row; DataError if it has none, or not a number of at least 0."""
    if column not in row.meta:
        columns = ", ".join(sorted(row.meta)) or "none"
        raise DataError(
            f"row '{row.id}' has no column '{column}' for its weight (other columns: {columns})",
            hint="name a column of the data with --set train.weights=NAME",
        )
    try:
        weight = float(row.meta[column])
    except (TypeError, ValueError):
        weight = -1.0
    if not 0 <= weight < float("inf"):
        raise DataError(
            f"row '{row.id}' has the weight {row.meta[column]!r} in the column '{column}'",
            hint="weights are numbers of at least 0",
        )
    return weight


def check_weights(pool: Pool, configs: Sequence[TrainConfig]) -> None:
    """Check that every row has a weight in each column of weights, before anything is spent.

    Raises:
        DataError: A row has none, or one that is not a number of at least 0.
    """
    for column in sorted({config.weights for config in configs if config.weights}):
        for row in pool.examples():
            _weight(row, column)


def check_losses(recipe: Recipe, arms: Sequence[Arm]) -> None:
    """Check the losses and training settings of all arms, before anything is spent.

    Raises:
        UsageError: A loss is unknown, a setting cannot be met, or a loss compares the strong model
            with a weak one of another tokenizer.
    """
    from pilotfish.losses import make_loss
    from pilotfish.models import load_tokenizer, tokenizer_digest
    from pilotfish.training.data.token_selection import unlike_reference
    from pilotfish.training.setup import unlike_tokenizers

    plans = [(arm, arm.config(recipe.train)) for arm in arms if arm.trained]
    configs = [config for _, config in plans]
    check_training_data(plans, trusted=bool(recipe.trusted))
    check_teachers(configs)
    losses = [make_loss(config.loss) for config in configs]
    teacher = any("teacher" in loss.needs for loss in losses)
    if teacher or any(config.focus for config in configs):
        weak, strong = (tokenizer_digest(load_tokenizer(m)) for m in (recipe.weak, recipe.strong))
        if weak != strong:
            refusal = unlike_tokenizers if teacher else unlike_reference
            raise refusal(recipe.weak, recipe.strong)


def check_training_data(plans: Sequence[tuple[Arm, TrainConfig]], *, trusted: bool) -> None:
    """Check that the arms and the rows can meet the training settings, before anything is spent.

    Args:
        plans: Every arm with its settings.
        trusted: Whether there are trusted rows.

    Raises:
        UsageError: A setting cannot be met.
    """
    from pilotfish.training.data.token_selection import make_token_selection

    for arm, config in plans:
        if config.focus:
            make_token_selection(config.focus)
        if config.stop == "gold" and not trusted:
            raise UsageError(
                f"train.stop=gold stops the arm '{arm.name}' by trusted rows, and there are none",
                hint="give them with --trusted, or pass --set train.stop=weak",
            )
        if config.stop == "gold" and "oracle" not in arm.name:
            raise UsageError(
                f"train.stop=gold makes the arm '{arm.name}' an oracle, and its name must say so",
                hint="make it a variant, as {oracle: {of: selected, train: {stop: gold}}}",
            )
    shared = [config for _, config in plans if config.gold_share]
    if shared and not any(arm.trusted and arm.rows != "none" for arm, _ in plans):
        raise UsageError(
            f"train.gold_share={shared[0].gold_share:g} is the share of trusted rows in the steps "
            "of an arm that trains on other rows too, and no such arm is trained",
            hint="train e.g. the arm trusted_selected, with --trusted DATA",
        )


def check_teachers(configs: Sequence[TrainConfig]) -> None:
    """Check that losses can learn from the stored outputs of the teacher.

    Raises:
        UsageError: A loss needs more than `train.teacher_kind` stores.
    """
    from pilotfish.losses import make_loss
    from pilotfish.training.teacher.outputs import check_stored

    for config in configs:
        if config.teacher == "cached":
            check_stored(make_loss(config.loss), config.loss, config.teacher_kind)


def as_oracle(arm: Arm, config: TrainConfig) -> Arm:
    """Rename an arm that stops by trusted labels, so that its name says it is an oracle."""
    if config.stop != "gold" or "oracle" in arm.name:
        return arm
    return replace(arm, name=f"{arm.name}_oracle")
