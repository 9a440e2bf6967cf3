"""Lines of lm-evaluation-harness's --log_samples as items, joined by document, prompt and target.

A line has doc_id, three hashes, the filter, the names of its metrics, and a value for each. The
task is in the name of the file; the results file next to it shows whether `--limit` was used.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pilotfish.errors import DataError, UsageError
from pilotfish.evaluation.items import Item

LOWER = {
    *("loss", "nll", "perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte"),
    *("wer", "cer", "ter", "brier_score", "mse", "mae"),
}
"""Metrics of which lower values are better."""

_DATED = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.:-]+)")
_HASHES = ("doc_hash", "prompt_hash", "target_hash")
_SHOWN = 16  # hex digits kept of each hash


def is_sample(record: Mapping[str, Any]) -> bool:
    """Return whether a line was written by lm-eval."""
    return "doc_id" in record


def task_in(path: Path) -> str:
    """Return the task in the name of a samples file."""
    found = _DATED.fullmatch(path.stem)
    return found["task"] if found else path.stem.removeprefix("samples_")


def limit_in_results(path: Path) -> bool:
    """Return whether the results file of the same evaluation shows that `--limit` was used."""
    found = _DATED.fullmatch(path.stem)
    results = path.parent / f"results_{found['date']}.json" if found else None
    if results is None or not results.is_file():
        return False
    try:
        return bool(json.loads(results.read_text(encoding="utf-8")).get("config", {}).get("limit"))
    except ValueError:
        return False


def items_of(
    samples: Sequence[Mapping[str, Any]], task: str, metric: str | None, what: str
) -> tuple[str, list[Item]]:
    """Convert the samples of one task.

    Args:
        samples: Lines of a samples file.
        task: Its task.
        metric: A metric, or lm-eval's `name,filter`; None where there is only one.
        what: The source, for error messages.

    Returns:
        The metric, and one item per sample that has it.

    Raises:
        UsageError: There are several metrics or filters and none is chosen, or an unknown one is.
        DataError: A line has no hashes, or the metric is not one number per document.
    """
    name, _, chosen_filter = (metric or "").partition(",")
    names = {str(name) for each in samples for name in each.get("metrics", ())}
    filters = {str(each.get("filter", "none")) for each in samples}
    name = _choose(name, names, "metrics", what)
    chosen_filter = _choose(chosen_filter, filters, "filters", what)
    rows = [each for each in samples if str(each.get("filter", "none")) == chosen_filter]
    return name, [_item(each, task, name, what) for each in rows if name in each]


def _choose(name: str, known: set[str], kind: str, what: str) -> str:
    if name in known:
        return name
    if not name and len(known) == 1:
        return next(iter(known))
    if not known:
        raise DataError(f"{what} names no {kind}", hint="was it written by --log_samples?")
    problem = f"no '{name}'" if name else f"several {kind}"
    hint = "choose with --metric NAME" + (",FILTER" if kind == "filters" else "")
    raise UsageError(f"{what} holds {problem}: {', '.join(sorted(known))}", hint=hint)


def _item(sample: Mapping[str, Any], task: str, metric: str, what: str) -> Item:
    number = sample["doc_id"]
    if missing := [key for key in _HASHES if not sample.get(key)]:
        raise DataError(
            f"{what}: document {number} has no {missing[0]}, so it cannot be joined",
            hint="evaluate with lm-eval 0.4.3 or newer",
        )
    value = sample[metric]
    if isinstance(value, list | dict | str) or value is None:
        raise DataError(
            f"{what}: '{metric}' of document {number} is no number: it is made of all documents "
            "together, and cannot be paired",
            hint="choose a metric that has one number per document",
        )
    output = sample.get("filtered_resps")
    if isinstance(output, list) and len(output) == 1 and isinstance(output[0], str):
        output = output[0]
    elif output is not None:
        output = json.dumps(output, ensure_ascii=False, default=str)
    return Item(
        id=f"{task}/{number}",
        metric=metric,
        value=float(value) if math.isfinite(value) else None,
        output=output,
        expected=str(sample.get("target")),
        hash=":".join(str(sample[key])[:_SHOWN] for key in _HASHES),
        task=task,
    )
