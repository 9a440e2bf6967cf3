"""Training data of an arm: rows, their sources and weights, targets, validation rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pilotfish.arms.arms import Arm
from pilotfish.arms.rows import TrainingPlan, rows_of_arm
from pilotfish.config import Recipe, TrainConfig
from pilotfish.data import Pool, overlap_keys
from pilotfish.data.held_out import hold_out, stored_test_rows
from pilotfish.data.run_pool import read_extra_rows, source_of_run
from pilotfish.errors import DataError, UsageError
from pilotfish.progress import SILENT, Progress
from pilotfish.records import Example, Floats, Ints
from pilotfish.store import Run

if TYPE_CHECKING:
    from pilotfish.training.data.row_weights import RowInfo
    from pilotfish.training.validation import Validation

POOL, GOLD, REPLAY = "pool", "gold", "replay"  # as `train` calls them


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
    """All that one model is trained on.

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


def training_data_of(
    run: Run,
    arm: Arm,
    seed: int,
    training: TrainingPlan,
    config: TrainConfig,
    *,
    progress: Progress = SILENT,
) -> TrainingData:
    """Collect the rows of an arm, its replay rows, and what its settings hold out and weigh.

    Raises:
        UsageError: Early stopping needs held-out rows, and there are too few.
        DataError: A row has no usable weight in the column of weights.
    """
    rows = rows_of_arm(run, arm, seed, training, progress=progress)
    trusted = len(training.trusted) if arm.trusted else 0
    sources = [POOL] * (len(rows) - trusted) + [GOLD] * trusted
    if config.replay:
        old = [replace(row, id=f"replay:{row.id}") for row in replay_rows(run, config.replay)]
        rows, sources = rows + old, sources + [REPLAY] * len(old)
    whole = TrainingData(rows, sources)
    if config.stop != "none":
        whole = _apart(whole, training, config, seed)
    if config.weights:
        return replace(whole, weights=_weights(whole, config.weights))
    return whole


def replay_rows(run: Run, data: str, *, limit: int | None = None) -> list[Example]:
    """Read the rows of `train.replay`, without those of the run's test data."""
    prompts = overlap_keys(stored_test_rows(run))
    return list(read_extra_rows(source_of_run(run), data, exclude=prompts, limit=limit).examples)


def hold_out_gold(training: TrainingPlan) -> list[Example]:
    """Hold out a fifth of the trusted rows, the same for all arms and seeds of a comparison."""
    count = max(1, len(training.trusted) // 5)
    return hold_out(training.trusted, count, training.stream(0))[1]


def check_training_data(plans: Sequence[tuple[Arm, TrainConfig]], *, trusted: bool) -> None:
    """Refuse training settings that the arms or the rows cannot meet, before anything is spent.

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
        if config.stop == "gold" and not _is_oracle(arm):
            raise UsageError(
                f"train.stop=gold makes the arm '{arm.name}' an oracle, and its name must say so",
                hint="make it a variant, as {oracle: {of: selected, train: {stop: gold}}}",
            )
    shared = [config for _, config in plans if config.gold_share]
    if shared and not any(arm.trusted and arm.rows != "none" for arm, _ in plans):
        raise UsageError(
            f"train.gold_share={shared[0].gold_share:g} is a share of trusted rows in the steps of "
            "an arm that learns others too, and no such arm is trained",
            hint="train e.g. the arm trusted_selected, with --trusted DATA",
        )


def check_weights(pool: Pool, configs: Sequence[TrainConfig]) -> None:
    """Check that every row has a weight in each column of weights, before anything is spent.

    Raises:
        DataError: A row has none, or one that is no number of at least 0.
    """
    for column in sorted({config.weights for config in configs if config.weights}):
        for row in pool.examples():
            _weight(row, column)


def as_oracle(arm: Arm, config: TrainConfig) -> Arm:
    """Rename an arm that stops by trusted labels, so that its name says it is an oracle."""
    if config.stop != "gold" or _is_oracle(arm):
        return arm
    return replace(arm, name=f"{arm.name}_oracle")


def _is_oracle(arm: Arm) -> bool:
    return "oracle" in arm.name


def _apart(
    whole: TrainingData, training: TrainingPlan, config: TrainConfig, seed: int
) -> TrainingData:
    """Hold out rows of the arm, and trusted ones where there are any; both give a curve."""
    validation: dict[str, list[Example]] = {}
    if len(training.trusted) > 1:
        validation["gold"] = hold_out_gold(training)
        whole = whole.without(validation["gold"])
    pairs = list(zip(whole.rows, whole.sources, strict=True))
    own = [row for row, source in pairs if source == POOL] or [
        row for row, source in pairs if source == GOLD
    ]
    count = min(config.stop_rows, len(own) // 5)
    if count:
        validation["weak"] = hold_out(own, count, training.stream(seed))[1]
        whole = whole.without(validation["weak"])
    if config.stop not in validation or not whole.rows:
        few = "trusted rows" if config.stop == "gold" else "rows of the arm"
        raise UsageError(
            f"train.stop={config.stop} holds out some {few}, and there are too few",
            hint="give more rows, or pass --set train.stop=none",
        )
    return replace(whole, validation=validation)


def _weights(whole: TrainingData, column: str) -> list[float]:
    pairs = zip(whole.rows, whole.sources, strict=True)
    return [_weight(row, column) if source == POOL else 1.0 for row, source in pairs]


def _weight(row: Example, column: str) -> float:
    if column not in row.meta:
        known = ", ".join(sorted(row.meta)) or "none"
        raise DataError(
            f"row '{row.id}' has no column '{column}' to weigh it by (columns left over: {known})",
            hint="name a column of the data with --set train.weights=NAME",
        )
    try:
        weight = float(row.meta[column])
    except (TypeError, ValueError):
        weight = -1.0
    if not 0 <= weight < float("inf"):
        raise DataError(
            f"row '{row.id}' weighs {row.meta[column]!r} by the column '{column}'",
            hint="weights are numbers of at least 0",
        )
    return weight


def check_losses(recipe: Recipe, arms: Sequence[Arm]) -> None:
    """Refuse, before anything is spent, a loss that is unknown or needs another tokenizer."""
    from pilotfish.losses import make_loss
    from pilotfish.models import load_tokenizer, tokenizer_digest
    from pilotfish.training.data.token_selection import unlike_reference
    from pilotfish.training.setup import unlike_tokenizers

    plans = [(arm, arm.config(recipe.train)) for arm in arms if arm.trained]
    configs = [config for _, config in plans]
    check_training_data(plans, trusted=bool(recipe.trusted))
    check_teachers(configs)
    losses = [make_loss(config.loss) for config in configs]
    taught, focus = any("teacher" in loss.needs for loss in losses), any(c.focus for c in configs)
    if taught or focus:
        weak, strong = (tokenizer_digest(load_tokenizer(m)) for m in (recipe.weak, recipe.strong))
        if weak != strong:
            refusal = unlike_tokenizers if taught else unlike_reference
            raise refusal(recipe.weak, recipe.strong)


def check_teachers(configs: Sequence[TrainConfig]) -> None:
    """Refuse losses that cannot learn from what is to be stored of the teacher."""
    from pilotfish.losses import make_loss
    from pilotfish.training.teacher.outputs import check_stored

    for config in configs:
        if config.teacher == "cached":
            check_stored(make_loss(config.loss), config.loss, config.teacher_kind)
