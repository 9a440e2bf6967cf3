"""Lines of lm-evaluation-harness's --log_samples as items, known by document, prompt and target.

A line tells doc_id, three hashes, the filter, the names of its metrics and a value for each; which
task it is of stands in the name of the file, whether `--limit` was used in the results beside it.
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
    "loss", "nll", "perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "wer",
    "cer", "ter", "brier_score", "mse", "mae",
}  # fmt: skip
"""Metrics of which less is better."""

_DATED = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.:-]+)")
_HASHES = ("doc_hash", "prompt_hash", "target_hash")
_SHOWN = 16  # hex digits of each hash that are kept


def is_sample(record: Mapping[str, Any]) -> bool:
    """Whether a line is lm-eval's."""
    return "doc_id" in record


def task_in(path: Path) -> str:
    """The task a samples file is named for."""
    found = _DATED.fullmatch(path.stem)
    return found["task"] if found else path.stem.removeprefix("samples_")


def limit_in_results(path: Path) -> bool:
    """Whether the results file of the same run says that `--limit` was used."""
    found = _DATED.fullmatch(path.stem)
    beside = path.parent / f"results_{found['date']}.json" if found else None
    if beside is None or not beside.is_file():
        return False
    try:
        told = json.loads(beside.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return bool(told.get("config", {}).get("limit"))


def items_of(
    samples: Sequence[Mapping[str, Any]], task: str, metric: str | None, what: str
) -> tuple[str, list[Item]]:
    """(metric, items) of one task; `metric` may be lm-eval's `name,filter`.

    UsageError, naming them, where there are several metrics or filters and none is chosen;
    DataError for a line without hashes, or a metric that is no number per document.
    """
    asked, _, sieve = (metric or "").partition(",")
    name = _chosen(
        asked, {str(name) for each in samples for name in each.get("metrics", ())}, "metrics", what
    )
    sieve = _chosen(sieve, {str(each.get("filter", "none")) for each in samples}, "filters", what)
    rows = [each for each in samples if str(each.get("filter", "none")) == sieve]
    return name, [_item(each, task, name, what) for each in rows if name in each]


def _chosen(asked: str, known: set[str], kind: str, what: str) -> str:
    if asked in known:
        return asked
    if not asked and len(known) == 1:
        return next(iter(known))
    told = f"no '{asked}'" if asked else f"several {kind}"
    if not known:
        raise DataError(f"{what} names no {kind}", hint="was it written by --log_samples?")
    hint = "choose with --metric NAME" + (",FILTER" if kind == "filters" else "")
    raise UsageError(f"{what} holds {told}: {', '.join(sorted(known))}", hint=hint)


def _item(sample: Mapping[str, Any], task: str, metric: str, what: str) -> Item:
    number = sample["doc_id"]
    if lacking := [key for key in _HASHES if not sample.get(key)]:
        raise DataError(
            f"{what}: document {number} has no {lacking[0]}, so it cannot be joined",
            hint="judge with lm-eval 0.4.3 or newer",
        )
    value = sample[metric]
    if isinstance(value, list | dict | str) or value is None:
        raise DataError(
            f"{what}: '{metric}' of document {number} is no number: it is made of all documents "
            "together, and cannot be paired",
            hint="choose a metric that has one number per document",
        )
    plain = float(value)
    return Item(
        f"{task}/{number}", metric, plain if math.isfinite(plain) else None,
        _output(sample.get("filtered_resps")), str(sample.get("target")),
        hash=":".join(str(sample[key])[:_SHOWN] for key in _HASHES), task=task,
    )  # fmt: skip


def _output(said: Any) -> str | None:
    if isinstance(said, list) and len(said) == 1 and isinstance(said[0], str):
        return said[0]
    return None if said is None else json.dumps(said, ensure_ascii=False, default=str)
