"""What one arm is taught: its rows, where each comes from, what it counts, and rows to stop by."""

from collections.abc import Sequence
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
from pilotfish.records import Example
from pilotfish.store import Run

if TYPE_CHECKING:
    from pilotfish.training.data.row_weights import RowInfo

POOL, GOLD, REPLAY = "pool", "gold", "replay"  # as `train` calls them


@dataclass(frozen=True)
class TrainingData:
    """Rows and, in their order, their sources and weights (none: 1 each).

    validation: held-out rows by whose labels they bear; none of their questions is learnt.
    """

    rows: list[Example]
    sources: list[str]
    weights: list[float] = field(default_factory=list)
    validation: dict[str, list[Example]] = field(default_factory=dict)

    @property
    def known(self) -> "RowInfo | None":
        """What training is told of the rows; None where they are all of the pool and alike."""
        from pilotfish.training.data.row_weights import RowInfo

        if not self.weights and set(self.sources) <= {POOL}:
            return None
        return RowInfo(self.sources, self.weights)

    def without(self, held: Sequence[Example]) -> "TrainingData":
        """The same without the rows that ask what held-out ones ask."""
        asked = overlap_keys(held)
        kept = [i for i, row in enumerate(self.rows) if not overlap_keys([row]) & asked]
        return replace(
            self,
            rows=[self.rows[i] for i in kept],
            sources=[self.sources[i] for i in kept],
            weights=[self.weights[i] for i in kept] if self.weights else [],
        )

    def count(self, source: str) -> int:
        """Rows of one source."""
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
    """The rows of an arm, replay rows behind them, and what its settings hold out and weigh.

    UsageError where there is nothing to stop by, DataError for weights that are none.
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
    """The rows of `train.replay`, but those that are judged on."""
    asked = overlap_keys(stored_test_rows(run))
    return list(read_extra_rows(source_of_run(run), data, exclude=asked, limit=limit).examples)


def hold_out_gold(training: TrainingPlan) -> list[Example]:
    """A fifth of the trusted rows, the same for all arms and seeds of a comparison."""
    count = max(1, len(training.trusted) // 5)
    return hold_out(training.trusted, count, training.stream(0))[1]


def check_training_data(plans: Sequence[tuple[Arm, TrainConfig]], *, trusted: bool) -> None:
    """Refuse, before anything is spent, settings that the arms or the rows at hand cannot meet."""
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
    """DataError, before anything is spent, for a column of weights that some row has not."""
    for column in sorted({config.weights for config in configs if config.weights}):
        for row in pool.examples():
            _weight(row, column)


def as_oracle(arm: Arm, config: TrainConfig) -> Arm:
    """The arm, under a name that says so where it is stopped by labels it would not have."""
    if config.stop != "gold" or _is_oracle(arm):
        return arm
    return replace(arm, name=f"{arm.name}_oracle")


def _is_oracle(arm: Arm) -> bool:
    return "oracle" in arm.name


def _apart(
    whole: TrainingData, training: TrainingPlan, config: TrainConfig, seed: int
) -> TrainingData:
    """Hold rows out of the arm's own, and gold ones where there are any; both give a curve."""
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
