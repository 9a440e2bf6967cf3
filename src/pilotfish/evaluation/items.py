"""One judged item, its line of JSON, and what a metric is."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pilotfish.errors import DataError
from pilotfish.records import Example, content_digest

if TYPE_CHECKING:
    from pilotfish.models import Loaded

UNBOUNDED = 2**31  # positions of a model whose config names no limit


@dataclass(frozen=True, slots=True)
class Item:
    """What one model did on one held-out row.

    value: None where the row could not be judged, never a number that stands for failure.
    output: the model's answer, None where the metric asks for none. expected: the row's own.
    confidence: the probability a classifier gives its answer; None (and left out) for other models.
    hash: of what was asked and expected (`item_hash`), task: which group of rows it belongs to;
    left out where None.
    """

    id: str
    metric: str
    value: float | None
    output: str | None
    expected: str | None
    confidence: float | None = None
    hash: str | None = None
    task: str | None = None

    def line(self) -> str:
        """One line of strict JSON, its keys in the order of the contract."""
        fields: dict[str, str | float | None] = {
            "id": self.id,
            "metric": self.metric,
            "value": self.value,
            "output": self.output,
            "expected": self.expected,
        }
        more = {"confidence": self.confidence, "hash": self.hash, "task": self.task}
        fields |= {name: value for name, value in more.items() if value is not None}
        text = json.dumps(fields, ensure_ascii=False, allow_nan=False)
        # A lone surrogate of the dataset has no UTF-8 form; escaped it survives.
        return text if _encodes(text) else json.dumps(fields, allow_nan=False)


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def item_hash(example: Example) -> str:
    """32 hex digits of a row's question and answer, its id and unused columns aside."""
    return content_digest(example.turns, example.text, example.label, {})


class Metric(Protocol):
    """A judgement of single rows.

    name: as on the command line. higher_is_better: the direction of `value`.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def higher_is_better(self) -> bool: ...  # noqa: D102

    def items(self, loaded: "Loaded", examples: Sequence[Example]) -> list[Item]:
        """One item per example, in their order."""
        ...


def read_items(path: Path | str) -> dict[str, float]:
    """{id: value} of a file of item lines, nan where the value is null.

    Raises DataError naming the line that is no item, or an id that stands twice.
    """
    values: dict[str, float] = {}
    with Path(path).open(encoding="utf-8") as handle:
        for number, (key, value) in enumerate(_pairs(handle, str(path)), start=1):
            if key in values:
                raise DataError(f"{path}, line {number}: the item '{key}' stands twice")
            values[key] = value
    return values


def read_tasks(path: Path | str) -> dict[str, str]:
    """{id: task} of the lines that name one; the file was checked by `read_items`."""
    with Path(path).open(encoding="utf-8") as handle:
        items = (json.loads(line) for line in handle)
        return {str(item["id"]): str(item["task"]) for item in items if item.get("task")}


def _pairs(lines: Iterable[str], path: str) -> Iterable[tuple[str, float]]:
    for number, line in enumerate(lines, start=1):
        try:
            item = json.loads(line)
            value = item["value"]
            yield str(item["id"]), math.nan if value is None else float(value)
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{path}, line {number} is no judged item: {error}",
                hint='an item is one line {"id": ..., "metric": ..., "value": ...}',
            ) from error
