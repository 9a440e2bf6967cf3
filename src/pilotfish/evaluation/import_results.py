"""Items evaluated elsewhere, joined by content: our own lines, or samples of lm-eval."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pilotfish.errors import DataError, UsageError
from pilotfish.evaluation.items import Item
from pilotfish.evaluation.lm_eval_samples import (
    LOWER,
    is_sample,
    items_of,
    limit_in_results,
    task_in,
)
from pilotfish.evaluation.results import commit_items
from pilotfish.store import Store

ArmSeed = tuple[str, int]
_HINT = 'an item is one line {"id": ..., "metric": ..., "value": ...}'


@dataclass(frozen=True)
class Imported:
    """The items of one model that was evaluated elsewhere."""

    items: tuple[Item, ...]
    metric: str
    higher_is_better: bool
    limited: bool = False  # only the first documents of a task were evaluated
    facts: Mapping[str, Any] = field(default_factory=dict)  # more fields of its manifest

    @property
    def digest(self) -> str:
        """sha256 of the items, whatever their order."""
        return _sha(item.line() for item in self.items)

    @property
    def questions(self) -> dict[str, str]:
        """{item id: hash of the question, "" where it is unknown}."""
        return {item.id: item.hash or "" for item in self.items}


def read_imported(
    path: Path | str, *, metric: str | None = None, lower_is_better: bool = False
) -> Imported:
    """Read the items of one file, or of a folder of lm-eval's samples files.

    Args:
        path: The file or folder.
        metric: A metric, or lm-eval's `name,filter`; None where there is only one.
        lower_is_better: Whether lower values are better; known for common metrics.

    Raises:
        DataError: A line is not an item; the message names it.
        UsageError: There is no such file, or several metrics or filters to choose from.
    """
    root = Path(path)
    if root.is_dir():
        files = sorted(root.rglob("samples_*.jsonl"))
        if not files:
            raise UsageError(
                f"{root} holds no samples_*.jsonl", hint="run lm-eval with --log_samples"
            )
    elif root.is_file():
        files = [root]
    else:
        raise UsageError(f"there is no file {root}", hint="check the path of the items")
    return merged([_read_file(each, metric, lower_is_better) for each in files], str(path))


def merged(parts: Sequence[Imported], what: str) -> Imported:
    """Join several files of one model, each of other tasks.

    Args:
        parts: The files, read.
        what: The source, for error messages.

    Raises:
        UsageError: The files have different metrics.
        DataError: An id occurs twice.
    """
    items = [item for part in parts for item in part.items]
    metrics = sorted({part.metric for part in parts})
    if len(metrics) > 1:
        raise UsageError(
            f"{what} holds different metrics in different files ({', '.join(metrics)})",
            hint="compare them one by one, naming each with --metric",
        )
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise DataError(f"{what}: the item '{item.id}' occurs twice")
        seen.add(item.id)
    limited = any(part.limited for part in parts)
    return replace(parts[0], items=tuple(items), limited=limited)


def check_alike(found: Mapping[ArmSeed, Imported]) -> None:
    """Check that all models have the same metric, the same ids, and under each id one question.

    Questions are compared by hash, as far as hashes are known.

    Raises:
        UsageError: Metrics differ.
        DataError: Items differ; the message names the models, how many differ, and one of them.
    """
    (first, base), *others = found.items()
    for other, imported in others:
        if imported.metric != base.metric:
            raise UsageError(
                f"{_name(other)} was judged by {imported.metric}, {_name(first)} by {base.metric}",
                hint="name one that all files hold with --metric",
            )
        mine, known = imported.questions, base.questions
        for (lacks, has), (holds, wanted) in (
            ((other, mine), (first, known)),
            ((first, known), (other, mine)),
        ):
            if missing := sorted(wanted.keys() - has.keys()):
                raise DataError(
                    f"{_name(lacks)} was not judged on {len(missing):,} of the {len(wanted):,} "
                    f"items of {_name(holds)}, '{missing[0]}' among them",
                    hint="evaluate every model on the same rows, without --limit",
                )
        unlike = sorted(key for key, one in known.items() if one and mine[key] not in ("", one))
        if unlike:
            raise DataError(
                f"{_name(other)} answered other questions than {_name(first)} under "
                f"{len(unlike):,} of {len(known):,} ids, '{unlike[0]}' among them: "
                f"{_difference(known[unlike[0]], mine[unlike[0]])}",
                hint="evaluate every model with the same rows, template and few-shot examples",
            )


def _difference(one: str, other: str) -> str:
    """Name which of lm-eval's three hashes differ; our own lines have one hash."""
    names = ("the document", "the prompt", "the target")
    pairs = list(zip(one.split(":"), other.split(":"), strict=False))
    if len(pairs) != len(names):
        return "its hash differs"
    unlike = [name for name, (a, b) in zip(names, pairs, strict=True) if a != b]
    return f"{' and '.join(unlike)} differ{'s' if len(unlike) == 1 else ''}"


def fingerprint_of(imported: Imported) -> str:
    """Return a sha256 over the questions, whatever their order."""
    return _sha(f"{key}\t{known}" for key, known in imported.questions.items())


def keep_imported(
    store: Store, model: ArmSeed, imported: Imported, *, test_fingerprint: str
) -> None:
    """Commit judge/<arm>/seed-<n>.jsonl with its manifest, as `evaluate_model` does.

    Args:
        store: The run's files.
        model: Arm and seed.
        imported: Its items.
        test_fingerprint: Of the questions.
    """
    facts = {
        "arm": model[0],
        "seed": model[1],
        "metric": imported.metric,
        "higher_is_better": imported.higher_is_better,
        "items": len(imported.items),
        "model_digest": None,
        "imported": imported.digest,
        "test_fingerprint": test_fingerprint,
        **({"limited": True} if imported.limited else {}),
        **imported.facts,
    }
    commit_items(store, facts, imported.items)


def _read_file(path: Path, metric: str | None, lower_is_better: bool) -> Imported:
    records = list(_records(path))
    if not records:
        raise DataError(f"{path} is empty", hint=_HINT)
    if is_sample(records[0][1]):
        samples = [record for _, record in records]
        name, items = items_of(samples, task_in(path), metric, str(path))
        lower = lower_is_better or name.partition(",")[0] in LOWER
        return Imported(tuple(items), name, not lower, limit_in_results(path))
    for number, record in records:
        if missing := [key for key in ("id", "metric", "value") if key not in record]:
            raise DataError(f"{path}, line {number} has no '{missing[0]}'", hint=_HINT)
        if not isinstance(record["id"], str | int | float):
            raise DataError(f"{path}, line {number}: the id is no text and no number", hint=_HINT)
    names = sorted({str(record["metric"]) for _, record in records})
    chosen = names[0] if metric is None and len(names) == 1 else metric
    if chosen is None or chosen not in names:
        problem = f"no '{metric}'" if metric else "several metrics"
        raise UsageError(
            f"{path} holds {problem}: {', '.join(names)}", hint="choose one with --metric"
        )
    items = [_item(path, line, each) for line, each in records if str(each["metric"]) == chosen]
    return Imported(tuple(items), chosen, not (lower_is_better or chosen in LOWER))


def _records(path: Path) -> Iterable[tuple[int, dict[str, Any]]]:
    """Yield line number and object of every line that is not blank."""
    with path.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}, line {number} is no JSON: {error}", hint=_HINT) from error
            if not isinstance(record, dict):
                raise DataError(f"{path}, line {number} is no object", hint=_HINT)
            yield number, record


def _item(path: Path, number: int, record: Mapping[str, Any]) -> Item:
    names = ("output", "expected", "hash", "task")
    text = {name: None if record.get(name) is None else str(record[name]) for name in names}
    try:
        return Item(
            str(record["id"]),
            str(record["metric"]),
            _finite_or_none(record["value"]),
            **text,
            confidence=_finite_or_none(record.get("confidence")),
        )
    except (TypeError, ValueError, OverflowError) as error:
        message = f"{path}, line {number}: a value or confidence is no number: {error}"
        raise DataError(message, hint=_HINT) from error


def _finite_or_none(value: Any) -> float | None:
    # json writes NaN and infinity without complaint; they are not results either
    return None if value is None or not math.isfinite(float(value)) else float(value)


def _name(model: ArmSeed) -> str:
    return f"{model[0]} seed {model[1]}"


def _sha(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode("utf-8", "surrogatepass")).hexdigest()
