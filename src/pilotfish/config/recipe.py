"""The recipe: everything `pilotfish run` needs, as YAML, checked before anything starts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from pilotfish.config.base import Block
from pilotfish.config.names import Name
from pilotfish.config.settings import validate
from pilotfish.config.training import TrainConfig, TuneConfig
from pilotfish.errors import UsageError, unknown_name

MAX_BYTES = 1_000_000
MAX_DEPTH = 50  # levels of nesting; settings need four
SEEDS = {"none": 1, "quick": 2, "full": 3}  # of each level of evidence
PLANTED = 20  # rows of each attack at evidence full, where nobody says how many
Equal = Literal["steps", "epochs", "tokens", "compute"]
# Settings of `train:` that say how long, which no variant has for itself.
_LENGTH = ("max_steps", "num_train_epochs")


class Variant(Block):
    """An arm trained in another way: `{of: selected, train: {loss: kd, learning_rate: 1e-4}}`."""

    of: str = "selected"
    """The arm whose rows it learns from."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Settings of the `train:` block that it has for itself."""

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
    """A guard: `{arm: selected, against: base, margin: 0.02}` must not be worse by the margin."""

    arm: str = "selected"
    against: str = "base"
    """An arm of this run, another run folder (its `selected`), or FOLDER:ARM."""
    task: str | None = None
    """Only the test rows of this task; None: all."""
    margin: float = Field(0.02, gt=0)
    """In the units of the metric: how much worse is still no loss."""


class Money(Block):
    """What an hour of the machine costs: `{per_hour: 2.5, currency: EUR}`."""

    per_hour: float = Field(gt=0)
    currency: str = "USD"


class Recipe(Block):
    """One experiment: rows, two models, a method, a budget, and how much evidence to buy."""

    data: str
    """DATA: a local jsonl/json/csv/parquet file, a folder or glob of them, or a hub dataset id."""
    weak: str
    """MODEL that measures: a local folder or a hub id."""
    strong: str
    """MODEL that learns."""
    budget: str = "10%"
    """`10%`, `500rows` or `2Mtokens`: the one the verdict is on."""
    budgets: list[str] | None = Field(None, min_length=1)
    """Several, sharing scores and controls; without `budget` the verdict is on the first."""
    method: str | None = None
    """METHOD; None: the default a benchmark backs (docs/results.md); `run` says which."""
    direction: Literal["high", "low", "middle"] | None = None
    methods: dict[Name, str] = Field(default_factory=dict)
    """Further selections and arms: name -> METHOD, as `ifd: ifd`, scored in the same pass."""
    choose: Literal["fixed", "split"] = "fixed"
    """fixed: the verdict is on `method`, named beforehand. split: on the method that does best on
    one half of the test rows, judged on the other."""
    equal: list[Equal] = Field(["steps"])
    """What else is held equal, each with arms of its own: epochs, tokens, compute."""
    trusted: str | None = None
    """Rows a person vouches for: they tune the weak model and make the trusted arms."""
    test: str | None = None
    """Held-out rows; None: a held-out part of the trusted rows, else of the pool."""
    metric: Literal["exact_match", "accuracy", "loss"] | None = None
    evidence: Literal["none", "quick", "full"] = "quick"
    seeds: int | None = Field(None, ge=1, le=1000)
    """None: 1 for none, 2 for quick, 3 for full."""
    arms: list[str] | None = None
    """Only these arms; None: those of the evidence level."""
    losses: dict[Name, str] = Field(default_factory=dict)
    """Extra arms on the selected rows: arm name -> LOSS, as `selected_kd: mix(lm=0.7, kd=0.3)`."""
    variants: dict[Name, Variant] = Field(default_factory=dict)
    """Extra arms that differ from one of the table in how they are trained."""
    canaries: int | None = Field(None, ge=0)
    """Rows of each of six attacks, planted beside the pool and held against the selections of its
    methods; None: 20 at evidence full, else none."""
    out: str | None = None
    seed: int = 0
    limit: int | None = Field(None, gt=0)
    max_bad_rate: float = Field(0.01, ge=0, le=1)
    map: dict[str, str] = Field(default_factory=dict)
    """Canonical field -> the data's column, as `prompt: question`."""
    dataset_config: str | None = None
    split: str | None = None
    revision: str | None = None
    max_length: int | None = Field(None, gt=1)
    """Tokens the weak model sees of a row; None: 1024, clamped to its window."""
    precision: Literal["fp32", "bf16", "int8", "auto"] = "auto"
    trust_remote_code: bool = False
    """Run the code that a model brings with it, which can do all that you can."""
    allow_short: bool = False
    margin: float | None = Field(None, gt=0)
    """Differences inside +- margin count as equivalent."""
    test_rows: int = Field(500, gt=1)
    """Rows held out for judging where no `test` is given."""
    task_column: str | None = None
    """Column of the test rows that names their task: differences are told per task too."""
    gates: dict[str, Gate] = Field(default_factory=dict)
    """Guards by name; a failing one ends the command with exit 4, an inconclusive one with 5."""
    money: Money | None = None
    """Puts a price beside every time."""
    tune: TuneConfig = TuneConfig()
    """How the weak model is tuned on the trusted rows."""
    train: TrainConfig = TrainConfig()
    """How the strong model is trained."""

    @model_validator(mode="before")
    @classmethod
    def _verdicts_budget(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("budgets") and not given.get("budget"):
            return {**given, "budget": given["budgets"][0]}
        return given

    @property
    def all_budgets(self) -> list[str]:
        """Every budget, that of the verdict first."""
        return list(dict.fromkeys([self.budget, *(self.budgets or ())]))

    @property
    def n_seeds(self) -> int:
        """Seeds in use: asked for, or what the evidence level needs."""
        return self.seeds or SEEDS[self.evidence]

    @property
    def planted(self) -> int:
        """Rows of each attack that are planted beside the pool."""
        return self.planted_at(self.evidence)

    def planted_at(self, evidence: str) -> int:
        """The same at another level of evidence."""
        return (PLANTED if evidence == "full" else 0) if self.canaries is None else self.canaries

    @property
    def all_variants(self) -> dict[str, Variant]:
        """`variants`, and those that `losses` is short for."""
        short = {name: Variant(train={"loss": loss}) for name, loss in self.losses.items()}
        return {**short, **self.variants}


def read_recipe(path: Path | str) -> dict[str, Any]:
    """A YAML recipe as a plain dict: safe loading, no aliases, at most 1 MB."""
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
    """UsageError for aliases, and for nesting that takes the parser minutes."""
    depth = 0
    for event in yaml.parse(text):
        if isinstance(event, yaml.events.AliasEvent):
            raise UsageError(f"{path} uses YAML aliases, which recipes do not allow")
        depth += isinstance(event, yaml.events.CollectionStartEvent)
        depth -= isinstance(event, yaml.events.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise UsageError(f"{path} nests deeper than {MAX_DEPTH} levels")


def make_recipe(settings: dict[str, Any], overrides: list[str] | None = None) -> Recipe:
    """Check settings (a recipe's, or the command line's) with `--set a.b=value` laid on top."""
    parts: dict[object, type[BaseModel]] = {
        "train": TrainConfig, "tune": TuneConfig, "variants": Variant, "gates": Gate,
        "money": Money,
    }  # fmt: skip
    return validate(Recipe, settings, overrides, parts=parts)


def tuning(overrides: Sequence[str] | None) -> TuneConfig:
    """The `tune:` settings of `--set tune.a=value`; another setting is refused by name."""
    return command_settings(overrides or (), only="tune").tune


def command_settings(overrides: Sequence[str], *, only: str, **known: Any) -> Recipe:
    """Check the `--set` of a command that takes settings of one block only."""
    for override in overrides:
        if not override.strip().startswith(f"{only}."):
            raise UsageError(
                f"--set {override}: this command takes only settings of {only}.",
                hint=f"write --set {only}.NAME=VALUE",
            )
    return make_recipe({"data": "-", "weak": "-", "strong": "-", **known}, list(overrides))
