"""Items judged elsewhere: lines as ours, or lm-evaluation-harness's samples, joined by content."""

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
from pilotfish.store import Store

ArmSeed = tuple[str, int]
_HINT = 'an item is one line {"id": ..., "metric": ..., "value": ...}'


@dataclass(frozen=True)
class Imported:
    """What one model did, judged elsewhere. limited: on the first documents of a task alone.

    facts: what else its manifest says.
    """

    items: tuple[Item, ...]
    metric: str
    higher_is_better: bool
    limited: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """sha256 of the items, whatever their order."""
        return _sha(item.line() for item in self.items)

    @property
    def questions(self) -> dict[str, str]:
        """{item id: hash of the question, "" where nobody knows it}."""
        return {item.id: item.hash or "" for item in self.items}


def read_imported(
    path: Path | str, *, metric: str | None = None, lower_is_better: bool = False
) -> Imported:
    """The items of one file, or of a folder of lm-eval's samples files.

    metric: which one, where there are several; lm-eval's `name,filter` too. DataError names the
    line that is no item, UsageError the metrics or filters to choose from.
    """
    files = _files(Path(path))
    parts = [_read(each, metric, lower_is_better) for each in files]
    return merged(parts, str(path))


def merged(parts: Sequence[Imported], what: str) -> Imported:
    """Several files of one model, each of other tasks, as one."""
    items = [item for part in parts for item in part.items]
    metrics = sorted({part.metric for part in parts})
    if len(metrics) > 1:
        raise UsageError(
            f"{what} holds other metrics in every file ({', '.join(metrics)})",
            hint="compare them one by one, naming each with --metric",
        )
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise DataError(f"{what}: the item '{item.id}' stands twice")
        seen.add(item.id)
    first = parts[0]
    return replace(first, items=tuple(items), limited=any(part.limited for part in parts))


def check_alike(found: Mapping[ArmSeed, Imported]) -> None:
    """Refuse models that were not asked the same: UsageError for metrics, DataError for items.

    The same ids everywhere, and under each id the same question, as far as hashes are known.
    """
    (first, base), *others = found.items()
    for other, imported in others:
        if imported.metric != base.metric:
            raise UsageError(
                f"{_name(other)} was judged by {imported.metric}, {_name(first)} by {base.metric}",
                hint="name one that all files hold with --metric",
            )
        _check_items(first, base.questions, other, imported.questions)


def _check_items(
    first: ArmSeed, asked: Mapping[str, str], other: ArmSeed, questions: Mapping[str, str]
) -> None:
    _check_none_lacks(other, questions, first, asked)
    _check_none_lacks(first, asked, other, questions)
    unlike = sorted(
        key for key, known in asked.items() if known and questions[key] not in ("", known)
    )
    if unlike:
        raise DataError(
            f"{_name(other)} was asked something else than {_name(first)} under {len(unlike):,} of "
            f"{len(asked):,} ids, '{unlike[0]}' among them: "
            f"{_why(asked[unlike[0]], questions[unlike[0]])}",
            hint="judge every model with the same rows, template and few-shot examples",
        )


def _check_none_lacks(
    model: ArmSeed, has: Mapping[str, str], other: ArmSeed, wanted: Mapping[str, str]
) -> None:
    if lacking := sorted({*wanted} - {*has}):
        raise DataError(
            f"{_name(model)} was not judged on {len(lacking):,} of the {len(wanted):,} items of "
            f"{_name(other)}, '{lacking[0]}' among them",
            hint="judge every model on the same rows, without --limit",
        )


def _why(one: str, other: str) -> str:
    """Which of the three hashes of lm-eval differ; of ours there is one."""
    names = ("the document", "the prompt", "the target")
    pairs = list(zip(one.split(":"), other.split(":"), strict=False))
    if len(pairs) != len(names):
        return "its hash differs"
    unlike = [name for name, (a, b) in zip(names, pairs, strict=True) if a != b]
    return f"{' and '.join(unlike)} differ{'s' if len(unlike) == 1 else ''}"


def fingerprint_of(imported: Imported) -> str:
    """sha256 over what was asked, whatever the order."""
    return _sha(sorted(f"{key}\t{known}" for key, known in imported.questions.items()))


def keep_imported(
    store: Store, model: ArmSeed, imported: Imported, *, test_fingerprint: str
) -> None:
    """Commit judge/<arm>/seed-<n>.jsonl with its manifest, as if it had been judged here."""
    arm, seed = model
    with store.attempt(f"judge/{arm}/seed-{seed}.json") as attempt:
        path = attempt.path(f"judge/{arm}/seed-{seed}.jsonl")
        text = "".join(item.line() + "\n" for item in imported.items)
        path.write_text(text, encoding="utf-8")
        attempt.meta = {
            "arm": arm,
            "seed": seed,
            "metric": imported.metric,
            "higher_is_better": imported.higher_is_better,
            "items": len(imported.items),
            "unscorable": sum(item.value is None for item in imported.items),
            "model_digest": None,
            "imported": imported.digest,
            "test_fingerprint": test_fingerprint,
            **({"limited": True} if imported.limited else {}),
            **imported.facts,
        }


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(path.rglob("samples_*.jsonl"))
        if not found:
            raise UsageError(
                f"{path} holds no samples_*.jsonl", hint="run lm-eval with --log_samples"
            )
        return found
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    return [path]


def _read(path: Path, metric: str | None, lower_is_better: bool) -> Imported:
    records = list(_records(path))
    if not records:
        raise DataError(f"{path} is empty", hint=_HINT)
    if is_sample(records[0][1]):
        samples = [record for _, record in records]
        name, items = items_of(samples, task_in(path), metric, str(path))
        lower = lower_is_better or name.partition(",")[0] in LOWER
        return Imported(tuple(items), name, not lower, limit_in_results(path))
    name = _metric(path, records, metric)
    items = [
        _item(path, number, record) for number, record in records if str(record["metric"]) == name
    ]
    return Imported(tuple(items), name, not (lower_is_better or name in LOWER))


def _records(path: Path) -> Iterable[tuple[int, dict[str, Any]]]:
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


def _metric(path: Path, records: Sequence[tuple[int, dict[str, Any]]], asked: str | None) -> str:
    for number, record in records:
        if missing := [key for key in ("id", "metric", "value") if key not in record]:
            raise DataError(f"{path}, line {number} has no '{missing[0]}'", hint=_HINT)
        if not isinstance(record["id"], str | int | float):
            raise DataError(f"{path}, line {number}: the id is no text and no number", hint=_HINT)
    names = sorted({str(record["metric"]) for _, record in records})
    if asked is None and len(names) == 1:
        return names[0]
    if asked not in names:
        said = f"no '{asked}'" if asked else "several metrics"
        raise UsageError(
            f"{path} holds {said}: {', '.join(names)}", hint="choose one with --metric"
        )
    return asked


def _item(path: Path, number: int, record: Mapping[str, Any]) -> Item:
    value = record["value"]
    try:
        # NaN and infinity, which json writes without a word, are no judgement either
        known = None if value is None or not math.isfinite(float(value)) else float(value)
        text = {key: _text(record.get(key)) for key in ("output", "expected", "hash", "task")}
        sure = record.get("confidence")
        return Item(
            str(record["id"]), str(record["metric"]), known, **text,
            confidence=None if sure is None or not math.isfinite(float(sure)) else float(sure),
        )  # fmt: skip
    except (TypeError, ValueError, OverflowError) as error:
        said = f"{path}, line {number}: a value or confidence is no number: {error}"
        raise DataError(said, hint=_HINT) from error


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _name(model: ArmSeed) -> str:
    return f"{model[0]} seed {model[1]}"


def _sha(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode("utf-8", "surrogatepass")).hexdigest()
