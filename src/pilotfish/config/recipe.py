"""The recipe: everything `pilotfish run` needs, as YAML, checked before anything starts."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from pilotfish.config.names import Name
from pilotfish.config.settings import (
    Block,
    Metavar,
    describe_old_keys,
    upgrade_overrides,
    upgrade_settings,
    validate,
)
from pilotfish.config.training import TrainConfig, WeakTrainConfig
from pilotfish.errors import UsageError, unknown_name

_LOG = logging.getLogger(__name__)
MAX_BYTES = 1_000_000
MAX_DEPTH = 50  # levels of nesting; settings need four
SEEDS = {"none": 1, "quick": 2, "full": 3}  # of each level of evidence
CANARY_ROWS = 20  # rows of each attack at evidence full, unless `canaries` is set
MatchedOn = Literal["steps", "epochs", "tokens", "compute"]
# Settings of `train:` that say how long, which no variant has for itself.
_LENGTH = ("max_steps", "num_train_epochs")


class Variant(Block):
    """An arm with other training settings: `{of: selected, train: {loss: kd}}`."""

    of: str = "selected"
    """The arm whose rows are trained on."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Settings of the `train:` block that differ for this arm."""

    @field_validator("train")
    @classmethod
    def _known(cls, train: dict[str, Any]) -> dict[str, Any]:
        if found := [name for name in _LENGTH if name in train]:
            raise ValueError(f"train.{found[0]}: every arm takes the same number of steps")
        if unknown := [name for name in train if name not in TrainConfig.model_fields]:
            raise unknown_name("setting", unknown[0], TrainConfig.model_fields)
        try:
            TrainConfig().changed(train)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"train.{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        return train


class Gate(Block):
    """A non-inferiority gate: `{arm: selected, against: base, margin: 0.02}`."""

    arm: str = "selected"
    """The arm that must not be worse."""
    against: str = "base"
    """An arm of this run, another run folder (its `selected`), or FOLDER:ARM."""
    task: str | None = None
    """Compare only on the test rows of this task; default: all rows."""
    margin: float = Field(0.02, gt=0)
    """Largest loss that passes, in units of the metric."""


class Pricing(Block):
    """The price of an hour of the machine: `{per_hour: 2.5, currency: EUR}`."""

    per_hour: float = Field(gt=0)
    currency: str = "USD"


class Recipe(Block):
    """One experiment: rows, two models, a method, a budget, and how much evidence to buy."""

    data: Annotated[str, Metavar("DATA")]
    """A jsonl, json, csv or parquet file, a folder or glob of them, or a hub dataset id."""
    weak: Annotated[str, Metavar("MODEL")]
    """The small model that scores the rows: a local folder or a hub id."""
    strong: Annotated[str, Metavar("MODEL")]
    """The large model that is fine-tuned: a local folder or a hub id."""
    budget: Annotated[str, Metavar("BUDGET")] = "10%"
    """How much to keep: 10% of all pool rows, 500rows or 2Mtokens."""
    budgets: list[str] | None = Field(None, min_length=1)
    """Several budgets with the same scores and controls; without `budget` the verdict is about the
    first."""
    method: Annotated[str | None, Metavar("METHOD")] = None
    """How rows are scored, as name or name(key=value, ...); see `pilotfish methods`.
    Default: perplexity(direction=low,end=true)."""
    direction: Literal["high", "low", "middle"] | None = None
    """Which end of the scores to keep; default: the method's own."""
    methods: dict[Name, str] = Field(default_factory=dict)
    """Further selections and arms: name -> METHOD, as `ifd: ifd`, scored in the same pass."""
    method_selection: Literal["fixed", "split"] = "fixed"
    """fixed: the verdict is about `method`. split: one half of the test rows selects the best
    method, and the verdict is about that method on the other half."""
    matched_on: list[MatchedOn] = Field(["steps"])
    """What is held equal between selected and random rows: steps, and with arms of their own
    epochs, tokens or compute."""
    trusted: Annotated[str | None, Metavar("DATA")] = None
    """Trusted rows. They are used to fine-tune the weak model first, and as baselines of their
    own."""
    test: Annotated[str | None, Metavar("DATA")] = None
    """Held-out rows to evaluate on; default: a part of the trusted rows, else of the pool."""
    metric: Literal["exact_match", "accuracy", "loss"] | None = None
    """What is measured on the test rows; default: what fits them."""
    evidence: Literal["none", "quick", "full"] = "quick"
    """none: one model, no verdict. quick: base, random and selected. full: every arm."""
    seeds: int | None = Field(None, ge=1, le=1000)
    """Number of seeds of every arm; default: 1 (none), 2 (quick), 3 (full)."""
    arms: list[str] | None = None
    """Train and evaluate only these arms; default: those of the evidence level."""
    losses: dict[Name, str] = Field(default_factory=dict)
    """Extra arms on the selected rows: arm name -> LOSS, as `selected_kd: mix(lm=0.7, kd=0.3)`."""
    variants: dict[Name, Variant] = Field(default_factory=dict)
    """Extra arms with the rows of another arm and other training settings."""
    canaries: int | None = Field(None, ge=0)
    """Number of canary rows of each of six attacks, added to the pool to measure how often each
    method would select them; default: 20 at evidence full, else none."""
    out: Annotated[str | None, Metavar("RUN")] = None
    """The run folder; default: runs/<data name>."""
    seed: int = 0
    """Start of every random draw: tuning, held-out rows, and seeds 0 to N-1 of every arm."""
    limit: int | None = Field(None, gt=0)
    """Read only the first N records."""
    max_bad_rate: Annotated[float, Metavar("SHARE")] = Field(0.01, ge=0, le=1)
    """Share of bad records above which the command stops (exit 3)."""
    map: Annotated[dict[str, str], Metavar("FIELD=COLUMN,..")] = Field(default_factory=dict)
    """Which column holds which field, as prompt=question,completion=answer."""
    dataset_config: Annotated[str | None, Metavar("NAME")] = None
    """Configuration of a hub dataset."""
    split: Annotated[str | None, Metavar("NAME")] = None
    """Split of a hub dataset; default: train."""
    revision: Annotated[str | None, Metavar("NAME")] = None
    """Revision of a hub dataset."""
    max_length: int | None = Field(None, gt=1)
    """Number of tokens of a row that the weak model reads; default: 1024, at most its window."""
    precision: Literal["fp32", "bf16", "int8", "auto"] = "auto"
    """Number format of the weak model. int8 needs a CPU with int8 dot products. auto: bf16 on GPUs
    that have it, int8 where the CPU can, model and pool are large and a sample agrees with fp32,
    else fp32."""
    trust_remote_code: bool = False
    """Run the code that a model ships with: it can do all that you can."""
    allow_short: bool = False
    """Keep fewer rows than the budget where fewer are eligible."""
    margin: float | None = Field(None, gt=0)
    """Differences inside +- margin count as equivalent."""
    test_rows: int = Field(500, gt=1)
    """Number of rows held out for evaluation where `test` is not set."""
    task_column: str | None = None
    """Column of the test rows that names their task: differences are reported per task too."""
    gates: dict[str, Gate] = Field(default_factory=dict)
    """Non-inferiority gates by name; a failed one ends the command with exit 4, an inconclusive one
    with 5."""
    pricing: Pricing | None = None
    """Adds a price to every time in the report."""
    weak_train: WeakTrainConfig = WeakTrainConfig()
    """How the weak model is trained on the trusted rows."""
    train: TrainConfig = TrainConfig()
    """How the strong model is trained."""

    @model_validator(mode="before")
    @classmethod
    def _default_budget(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("budgets") and not given.get("budget"):
            return {**given, "budget": given["budgets"][0]}
        return given

    @property
    def all_budgets(self) -> list[str]:
        """Every budget, the one of the verdict first."""
        return list(dict.fromkeys([self.budget, *(self.budgets or ())]))

    @property
    def n_seeds(self) -> int:
        """Number of seeds: `seeds`, or the default of the evidence level."""
        return self.seeds or SEEDS[self.evidence]

    @property
    def canary_rows(self) -> int:
        """Number of canary rows of each attack."""
        return self.canary_rows_at(self.evidence)

    def canary_rows_at(self, evidence: str) -> int:
        """Return the number of canary rows of each attack at a level of evidence."""
        return (
            (CANARY_ROWS if evidence == "full" else 0) if self.canaries is None else self.canaries
        )

    @property
    def all_variants(self) -> dict[str, Variant]:
        """Variants, those of `losses` included."""
        short = {name: Variant(train={"loss": loss}) for name, loss in self.losses.items()}
        return {**short, **self.variants}


def read_recipe(path: Path | str) -> dict[str, Any]:
    """Read a YAML recipe as a plain dict: safe loading, no aliases, at most 1 MB.

    Raises:
        UsageError: The file cannot be read, or is no mapping of settings.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the recipe {path}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path} is larger than a recipe may be ({MAX_BYTES:,} bytes)")
    try:
        text = data.decode("utf-8")
        _refuse_bombs(path, text)
        found = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not readable YAML: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} does not hold a recipe (a mapping of settings)")
    return found


def _refuse_bombs(path: Path | str, text: str) -> None:
    """Raise UsageError for aliases, and for nesting that takes the parser minutes."""
    depth = 0
    for event in yaml.parse(text):
        if isinstance(event, yaml.events.AliasEvent):
            raise UsageError(f"{path} uses YAML aliases, which recipes do not allow")
        depth += isinstance(event, yaml.events.CollectionStartEvent)
        depth -= isinstance(event, yaml.events.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise UsageError(f"{path} nests deeper than {MAX_DEPTH} levels")


def make_recipe(settings: dict[str, Any], overrides: list[str] | None = None) -> Recipe:
    """Check recipe settings.

    Args:
        settings: From a YAML recipe or the command line. Old keys are read under their new names,
            with a warning in the log.
        overrides: `a.b=value` texts of `--set`, applied on top.

    Raises:
        UsageError: A setting is missing, unknown or wrong.
    """
    current, texts = upgrade_settings(settings), upgrade_overrides(overrides or ())
    if old := describe_old_keys(settings, overrides or ()):
        _LOG.warning(old)
    parts: dict[object, type[BaseModel]] = {
        "train": TrainConfig, "weak_train": WeakTrainConfig, "variants": Variant, "gates": Gate,
        "pricing": Pricing,
    }  # fmt: skip
    return validate(Recipe, current, texts, parts=parts)


def tuning(overrides: Sequence[str] | None) -> WeakTrainConfig:
    """Return the `weak_train:` settings of `--set`; refuse others by name."""
    return command_settings(overrides or (), only=("weak_train",)).weak_train


def command_settings(overrides: Sequence[str], *, only: Sequence[str], **known: Any) -> Recipe:
    """Check the `--set` of a command that takes settings of some blocks only.

    Args:
        overrides: `block.name=value` texts.
        only: The blocks.
        known: Settings of the recipe that the command knows already.

    Raises:
        UsageError: A setting is unknown or wrong, or of another block.
    """
    for override in upgrade_overrides(overrides):
        if override.strip().partition(".")[0] not in only:
            raise UsageError(
                f"--set {override}: this command takes only settings of "
                f"{' and '.join(f'{block}.' for block in only)}",
                hint=f"write --set {only[0]}.NAME=VALUE",
            )
    return make_recipe({"data": "-", "weak": "-", "strong": "-", **known}, list(overrides))
