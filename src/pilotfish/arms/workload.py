"""Count the work of a run before it starts: tokens of its rows, its models and their steps.

Only tokenizers and model configs are read. `price` adds up the FLOPs of this work; planning turns
it into numbered steps with seconds and memory.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from pilotfish.arms.arms import Arm, grid_for
from pilotfish.arms.resolve import ResolvedRecipe
from pilotfish.arms.selections import MAIN, ArmSelections
from pilotfish.budget import parse_budget, resolve, take
from pilotfish.comparison.arm_names import parse_arm_name
from pilotfish.config import SEEDS, Recipe, TrainConfig, WeakTrainConfig
from pilotfish.config.scoring import DEFAULT_MAX_LENGTH
from pilotfish.data import Pool
from pilotfish.data.held_out import HeldOutData
from pilotfish.flops import Shape, forward, generation, training
from pilotfish.methods import Selector, make
from pilotfish.records import Example, Floats, Ints, Need
from pilotfish.scoring.setup import needs_of
from pilotfish.selection.canaries.attacks import ATTACKS

MAX_ROWS = 2000  # rows tokenized: a shard, so that equal texts are measured once as in a run


@dataclass(frozen=True)
class ModelInfo:
    """The config and the tokenizer of a model, without its weights."""

    name: str
    parameters: int
    known_shape: Shape | None  # None where the config does not give it
    window: int | None
    tokenizer: Any

    @classmethod
    def read(cls, name: str) -> "ModelInfo":
        """Read the config and the tokenizer of a model.

        Args:
            name: A local folder or a hub id.

        Raises:
            UsageError: There is no such model, or its tokenizer is missing.
        """
        from pilotfish.models import config_of, count_parameters, load_tokenizer, window_of

        config, parameters = config_of(name), count_parameters(name)
        try:
            shape = Shape.of(config.to_dict(), parameters)
        except KeyError:
            shape = None
        return cls(name, parameters, shape, window_of(config), load_tokenizer(name))

    @property
    def shape(self) -> Shape:
        """The shape for costs; an unknown one costs 2 FLOPs per parameter and token."""
        return self.known_shape or Shape(self.parameters, 0, 0, 12)


@dataclass(frozen=True)
class DatasetSize:
    """The rows of a run, or a sample of them with the size of the whole."""

    pool: Pool  # every row, or a sample
    held_out: HeldOutData
    rows: int  # of the whole pool
    exact: bool = True  # False: `rows` is an estimate
    seconds: float = 0.0  # to read the whole pool, the trusted rows and the test rows


@dataclass(frozen=True)
class RowLengths:
    """Tokens of sampled pool rows, truncated as a run truncates them."""

    rows: Sequence[Example]  # [n]
    weak: Ints  # [n] prompt and response, by the weak tokenizer
    response: Ints  # [n] response alone, by the weak tokenizer
    passes: tuple[Ints, ...]  # per forward pass of scoring: [<= n] tokens of its distinct texts
    strong: Ints  # [n] as trained on, by the strong tokenizer; 0 where nothing can be learned


@dataclass(frozen=True)
class EvalWork:
    """A set of rows that a model answers or reads; token counts are means per row."""

    metric: str
    rows: int
    prompt: float
    answer: float
    room: int  # new tokens an answer may take; 0 where the metric only reads

    @property
    def generates(self) -> bool:
        """Whether the model writes answers, instead of reading the expected ones."""
        return self.metric == "exact_match"

    @property
    def read_tokens(self) -> float:
        """Tokens that all rows give the model to read."""
        return self.rows * (self.prompt + (0 if self.generates else self.answer))

    @property
    def new_tokens(self) -> float:
        """Tokens that the model writes for all rows."""
        return self.rows * self.answer if self.generates else 0.0


@dataclass(frozen=True)
class TuningWork:
    """Tuning of the weak model with every learning rate for every epoch: an upper bound."""

    config: TrainConfig  # with the small batches that few rows get
    rows: int
    steps: int
    learned: float  # tokens trained on
    held_out: float  # tokens of the held-out rows, read after every epoch

    @classmethod
    def count(cls, tune: WeakTrainConfig, lengths: Ints) -> "TuningWork":
        """Count the tuning on trusted rows of `lengths` [t] tokens."""
        from pilotfish.training.tune import EPOCHS, SHARES, for_few_rows

        settings = TrainConfig(**dict(tune))
        rows, rate, mean = len(lengths), settings.learning_rate, float(lengths.mean())
        held_rows = max(1, rows // 5)
        rates = len(set(rate)) if isinstance(rate, list) else len(SHARES) if rate is None else 1
        config = for_few_rows(settings, rows - held_rows)
        size = config.per_device_train_batch_size
        steps = rates * EPOCHS * math.ceil((rows - held_rows) / size)
        held_out = rates * (EPOCHS + 1) * held_rows * mean
        return cls(config, rows, steps, steps * size * mean, held_out)


@dataclass(frozen=True)
class Job:
    """One arm with one seed: a model that is trained, or only evaluated."""

    arm: Arm
    seed: int
    rows: int
    lengths: Ints  # [k] tokens of some of its rows
    steps: int
    config: TrainConfig

    @property
    def name(self) -> str:
        """The name of this model in the cost events of a run."""
        return f"{self.arm.name} seed {self.seed}"

    @property
    def tokens(self) -> float:
        """Tokens that training goes through, epochs counted."""
        from pilotfish.data_order import rows_per_step

        return self.steps * rows_per_step(self.config) * float(self.lengths.mean())

    @property
    def tried_rates(self) -> int:
        """Learning rates that are tried in full before the best one is trained again."""
        rate = self.config.learning_rate
        return len(set(rate)) if isinstance(rate, list) and self.seed == 0 else 0


@dataclass(frozen=True)
class Workload:
    """Everything that decides how much a run of a recipe has to do."""

    resolved: ResolvedRecipe
    selectors: Mapping[str, Selector]  # by the name of the selection that each makes
    data: DatasetSize
    weak: ModelInfo
    strong: ModelInfo
    lengths: RowLengths
    trusted: Ints  # [t] tokens of the trusted rows, by the weak tokenizer
    test: EvalWork
    # selection -> [n] scores of the sampled rows, higher is picked first, nan where unknown
    scores: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        """The settings of the run."""
        return self.resolved.recipe

    @property
    def selections(self) -> ArmSelections:
        """Its methods and budgets."""
        return self.resolved.selections

    @property
    def pool_rows(self) -> int:
        """Rows to choose from."""
        return self.data.rows

    @property
    def tuned(self) -> bool:
        """Whether there are trusted rows to tune the weak model on."""
        return len(self.trusted) > 0

    @property
    def needs(self) -> tuple[Need, ...]:
        """What all methods measure, each need once."""
        return needs_of(self.selectors.values())

    @property
    def lora(self) -> bool:
        """Whether the strong model is trained with LoRA: as set, else by its size."""
        from pilotfish.training.setup import learns_lora

        return learns_lora(self.recipe.train, self.strong.parameters)

    @cached_property
    def tuning(self) -> TuningWork:
        """Tuning on the trusted rows, once."""
        return TuningWork.count(self.recipe.weak_train, self.trusted)

    @property
    def labeling(self) -> EvalWork:
        """The weak model answering the pool, whose rows are taken to be like the test rows."""
        return replace(self.test, metric="exact_match", rows=self.pool_rows)

    @cached_property
    def extra_compute(self) -> float:
        """Share of the selected arm's training that the FLOPs of tuning and scoring would buy."""
        if self.weak.known_shape is None or self.strong.known_shape is None:
            return 0.0
        from pilotfish.data_order import plan_steps, rows_per_step

        mean, train = float(self.lengths.strong.mean()), self.recipe.train
        steps = plan_steps(self.budget_rows(self.recipe.budget), train)
        learned = steps * rows_per_step(train) * mean
        paid = training(self.strong.shape, learned, context=mean / 2, lora=self.lora)
        spent = self.reading_flops(self.scored_tokens)
        if self.tuned:
            spent += training(self.weak.shape, self.tuning.learned)
            spent += forward(self.weak.shape, self.tuning.held_out)
        return spent / paid

    @property
    def scored_tokens(self) -> float:
        """Tokens that scoring the pool reads, every forward pass counted."""
        scale = self.pool_rows / max(len(self.lengths.rows), 1)
        return scale * float(self.lengths.weak.sum()) * len(self.lengths.passes)

    def reading_flops(self, tokens: float) -> float:
        """FLOPs of the weak model reading that many tokens of rows like the pool's."""
        return forward(self.weak.shape, tokens, context=mean_context(self.lengths.weak))

    @property
    def tuning_flops(self) -> float:
        """FLOPs of tuning the weak model once."""
        shape, context = self.weak.shape, mean_context(self.trusted)
        learned = training(shape, self.tuning.learned, context=context)
        return learned + forward(shape, self.tuning.held_out, context=context)

    def training_flops(self, job: Job) -> float:
        """FLOPs of training one arm with one seed."""
        context = mean_context(job.lengths)
        return training(self.strong.shape, job.tokens, context=context, lora=self.lora)

    def seeds(self, level: str) -> int:
        """Seeds of every arm at a level of evidence."""
        return self.recipe.n_seeds if level == self.recipe.evidence else SEEDS[level]

    def jobs(self, level: str) -> list[Job]:
        """List every model of a level of evidence, trained or only evaluated, in a run's order."""
        return [
            self.job(arm, seed)
            for seed in range(self.seeds(level))
            for arm in grid_for(self.recipe, level)
            if seed == 0 or arm.trained or (arm.name == "weak" and self.tuned)
        ]

    def job(self, arm: Arm, seed: int) -> Job:
        """Count the rows and the optimizer steps of one arm with one seed."""
        from pilotfish.data_order import plan_steps

        config = arm.config(self.recipe.train)
        if not arm.trained:
            return Job(arm, seed, 0, np.zeros(0, np.int64), 0, config)
        budget = self.budget_rows(self.selections.slugs[parse_arm_name(arm.name).budget])
        of_pool, lengths = self._pool_rows_of(arm, budget)
        trusted = self.trusted if arm.trusted else self.trusted[:0]
        rows = of_pool + len(trusted)
        if len(trusted):  # as many of either as their shares of the rows
            each = max(1, round(len(trusted) * len(lengths) / max(of_pool, 1)))
            mixed = np.concatenate([lengths, np.resize(trusted, each)])
            lengths = mixed if of_pool else trusted
        main = self.budget_rows(self.recipe.budget)
        steps = plan_steps(main, self.recipe.train)
        if arm.steps == "compute":
            steps = max(1, round(steps * (1 + self.extra_compute)))
        elif arm.steps == "epochs":
            steps = max(1, math.ceil(steps * rows / main))
        return Job(arm, seed, rows, lengths, steps, config)

    def budget_rows(self, text: str) -> int:
        """Rows that a budget buys; an estimate for a budget in tokens.

        Raises:
            UsageError: The pool is too small, as `select` would say.
        """
        budget, short = parse_budget(text), self.recipe.allow_short
        order = np.arange(self.pool_rows)
        if budget.unit == "rows":
            return len(take(order, budget, self.pool_rows, allow_short=short))
        each = max(float(self.lengths.weak.mean()), 1.0)
        tokens = np.full(self.pool_rows, round(each), dtype=np.int64)
        kept = take(order, budget, self.pool_rows, tokens=tokens, allow_short=short)
        return max(1, min(len(kept), round(resolve(budget, self.pool_rows) / each)))

    def _pool_rows_of(self, arm: Arm, budget: int) -> tuple[int, Ints]:
        """Pool rows an arm trains on, and the lengths of the sampled rows like them."""
        lengths, rows = self.lengths, budget
        if arm.rows != "selection":
            return (0 if arm.rows == "none" else self.pool_rows), lengths.strong
        kind = selection_kind(arm.selection)
        if arm.steps == "compute":
            rows = min(round(budget * (1 + self.extra_compute)), self.pool_rows)
        elif kind == "random_tokens":  # as many tokens as the selected rows have
            selected = float(lengths.weak[self._likely_rows(MAIN, budget)].mean())
            rows = min(round(budget * selected / float(lengths.weak.mean())), self.pool_rows)
        return rows, lengths.strong[self._likely_rows(kind, rows)]

    def _likely_rows(self, kind: str, rows: int) -> Ints:
        """Indices of the sampled rows that a selection would hold; all of them if unknown."""
        everything = np.arange(len(self.lengths.rows))
        if kind == "longest":
            values = self.lengths.response.astype(np.float64)
        else:
            same_lengths_as = MAIN if kind == "length_matched" else kind
            values = self.scores.get(same_lengths_as, np.full(len(everything), np.nan))
        usable = np.flatnonzero(np.isfinite(values))
        if not len(usable):
            return everything
        count = max(1, round(rows / self.pool_rows * len(usable)))
        return usable[np.argsort(-values[usable], kind="stable")[:count]]

    def canaries(self, level: str, jobs: Sequence[Job]) -> Iterator[tuple[str, int, float | None]]:
        """List the selections that attack rows test: (selection, attack rows, tokens scored).

        Attack rows are taken to be as long as the pool's. Tokens are None where none are scored.
        """
        canaries = self.recipe.canary_rows_at(level)
        present = {MAIN, *(job.arm.selection.format(seed=0) for job in jobs)}
        rows = min(canaries, self.pool_rows) * len(ATTACKS)
        for name in self.selections.with_controls if canaries else ():
            if name in present:
                method = self.selections.methods.get(name)
                passes = len(self.lengths.passes)
                tokens = rows * float(self.lengths.weak.mean()) * passes
                yield name, rows, tokens if method and method.name != "random" else None


def count_work(
    resolved: ResolvedRecipe,
    data: DatasetSize,
    models: tuple[ModelInfo, ModelInfo],
    metric: str,
    *,
    max_rows: int = MAX_ROWS,
) -> Workload:
    """Tokenize a sample of the rows of a run.

    Args:
        resolved: The settings of the run, with its methods and budgets.
        data: Its rows.
        models: (weak, strong).
        metric: Name of the metric of evaluation.
        max_rows: Pool rows to tokenize, evenly from the whole pool.

    Raises:
        UsageError: A method needs a direction and has none, or a budget cannot be met.
    """
    from pilotfish.engine.batches import distinct
    from pilotfish.engine.scorer import LENGTHS, by_pass
    from pilotfish.tokenization import clamp_max_length, encode_needs

    recipe, (weak, strong) = resolved.recipe, models
    selectors = {
        name: make(method, recipe.direction if name == MAIN else None)
        for name, method in resolved.selections.methods.items()
    }
    for selector in selectors.values():
        selector.ranker()  # refuses a missing direction before anything is measured
    needs = needs_of(selectors.values())
    sampled = np.unique(np.linspace(0, len(data.pool) - 1, max_rows).round().astype(np.int64))
    rows = data.pool.take(sampled)
    limit = clamp_max_length(recipe.max_length or DEFAULT_MAX_LENGTH, weak.window)
    encoded = encode_needs(rows, needs, weak.tokenizer, limit)
    response = np.array([row.n_response for row in encoded[needs[0]]], dtype=np.int64)
    prompt = np.array([row.n_prompt for row in encoded[needs[0]]], dtype=np.int64)
    passes = []  # of each forward pass, the tokens of its distinct texts: equal ones are read once
    for needed in by_pass(encoded):
        if LENGTHS not in needed:
            texts = [row for row in next(iter(needed.values())) if len(row.read.ids)]
            first = distinct(texts).first if texts else np.zeros(0, np.int64)
            passes.append(np.array([len(texts[int(i)].read.ids) for i in first], dtype=np.int64))
    trained = _trained_lengths(rows, strong, recipe.train)
    trusted = _trained_lengths(data.held_out.trusted, weak, TrainConfig(**dict(recipe.weak_train)))
    work = Workload(
        resolved, selectors, data, weak, strong,
        RowLengths(rows, prompt + response, response, tuple(passes), trained),
        trusted[trusted > 0], _eval_work(data.held_out.test, strong, metric),
    )  # fmt: skip
    for budget in resolved.selections.slugs.values():
        work.budget_rows(budget)  # refuses a budget that cannot be met
    return work


def _trained_lengths(rows: Sequence[Example], model: ModelInfo, config: TrainConfig) -> Ints:
    """[n] tokens of each row as `config` trains on it; 0 where it cannot be learned."""
    from pilotfish.tokenization import encode_training

    limit = min(config.max_length, model.window or config.max_length)
    return np.array(
        [len(row.ids) for row in encode_training(rows, model.tokenizer, limit)], dtype=np.int64
    )


def _eval_work(test: Sequence[Example], model: ModelInfo, metric: str) -> EvalWork:
    from pilotfish.evaluation.exact_match import ROOM
    from pilotfish.tokenization import encode_prompts

    prompts = encode_prompts(test, model.tokenizer, model.window or 2**31, 0)
    texts = [row.response for row in test]
    encoded = model.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    answers = [len(ids) for ids in encoded]
    room = max(answers) + ROOM if metric == "exact_match" else 0
    prompt = float(np.mean([len(each.ids) for each in prompts]))
    return EvalWork(metric, len(test), prompt, float(np.mean(answers)), room)


def selection_kind(selection: str) -> str:
    """Return the name of a selection without its budget and its seed."""
    return selection.removesuffix("-{seed}").partition("@")[0]


def evaluation_flops(model: ModelInfo, rows: int, read: float, new: float) -> float | None:
    """Count the FLOPs of evaluating one model; None where its shape is unknown.

    Args:
        model: The model.
        rows: Number of test rows.
        read: Tokens read, all rows together.
        new: Tokens written, all rows together.
    """
    if model.known_shape is None or not rows:
        return None
    return generation(model.known_shape, read / rows, new / rows, rows=rows)


def mean_context(lengths: Ints) -> float:
    """Return how many positions a token attends to on average: half a row, weighted by length.

    Args:
        lengths: [n] tokens of each row.
    """
    total = float(lengths.sum())
    return float(np.square(lengths.astype(np.float64)).sum()) / (2 * total) if total else 0.0
