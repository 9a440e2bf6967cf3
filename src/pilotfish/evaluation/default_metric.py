"""Which metric fits the test rows, and why."""

from collections.abc import Sequence

from pilotfish.config import Recipe
from pilotfish.errors import DataError
from pilotfish.progress import Progress
from pilotfish.records import Example

FEW = 20  # more distinct answers than this are not classes
SHORT = 64  # characters; most answers must be this short to be right or wrong as a whole
_EACH = 5  # rows per distinct answer, on average, for the answers to be classes


def default_metric(examples: Sequence[Example]) -> tuple[str, str]:
    """Choose a metric by the rows' answers.

    Returns:
        A name in METRICS, and the reason in words.

    Raises:
        DataError: There is no row.
    """
    if not examples:
        raise DataError("there are no test rows to judge on", hint="give some with --test DATA")
    if all(example.label is not None for example in examples):
        return "accuracy", "every test row has a label"
    if any(not example.turns for example in examples):
        return "loss", "the test rows are plain text without an expected answer"
    answers = sorted((example.response for example in examples), key=len)
    distinct = len(set(answers))
    # A few long answers do not make the rest unmatchable.
    typical = len(answers[int(0.9 * (len(answers) - 1))])
    if typical <= SHORT and 2 <= distinct <= FEW and _EACH * distinct <= len(answers):
        return "accuracy", f"the {len(answers):,} test rows have only {distinct} distinct answers"
    if typical <= SHORT:
        return "exact_match", f"nine in ten answers have at most {typical} characters"
    return "loss", f"answers are long: nine in ten have up to {typical:,} characters"


def metric_of_recipe(recipe: Recipe, test: Sequence[Example], progress: Progress) -> str:
    """Return the recipe's metric; without one the default, with a note that says why."""
    if recipe.metric:
        return recipe.metric
    metric, why = default_metric(test)
    progress.note(f"metric: {metric} ({why})")
    return metric
