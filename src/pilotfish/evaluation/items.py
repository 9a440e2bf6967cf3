"""One evaluated item, its line of JSON, and the interface of a metric."""

import json
import math
from collections.abc import Sequence
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

    The last three fields are left out of the line where they are None.
    """

    id: str
    metric: str
    value: float | None  # None where the row could not be evaluated, never a stand-in number
    output: str | None  # the model's answer, None for metrics without one
    expected: str | None  # the row's own answer
    confidence: float | None = None  # the probability that a classifier gives its answer
    hash: str | None = None  # `item_hash` of the row
    task: str | None = None  # the group of rows it belongs to

    def line(self) -> str:
        """Return one line of strict JSON, its keys in the order of the contract."""
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
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:  # a lone surrogate of the dataset has no UTF-8 form
            return json.dumps(fields, allow_nan=False)
        return text


def item_hash(example: Example) -> str:
    """Return 32 hex digits over a row's question and answer, without its id and other columns."""
    return content_digest(example.turns, example.text, example.label, {})


class Metric(Protocol):
    """A metric of single rows."""

    @property
    def name(self) -> str:
        """As on the command line."""

    @property
    def higher_is_better(self) -> bool:
        """The direction of an item's value."""

    def items(self, loaded: "Loaded", examples: Sequence[Example]) -> list[Item]:
        """Run a model over the examples; return one item per example, in their order."""


def read_items(path: Path | str) -> dict[str, float]:
    """Read {id: value} of a file of item lines, nan where the value is null.

    Raises:
        DataError: A line is not an item, or an id occurs twice; the message names the line.
    """
    values: dict[str, float] = {}
    with Path(path).open(encoding="utf-8") as handle:
        for number, line in enumerate(handle, start=1):
            try:
                item = json.loads(line)
                key, value = str(item["id"]), item["value"]
                known = math.nan if value is None else float(value)
            except (ValueError, TypeError, KeyError) as error:
                raise DataError(
                    f"{path}, line {number} is no judged item: {error}",
                    hint='an item is one line {"id": ..., "metric": ..., "value": ...}',
                ) from error
            if key in values:
                raise DataError(f"{path}, line {number}: the item '{key}' occurs twice")
            values[key] = known
    return values


def read_tasks(path: Path | str) -> dict[str, str]:
    """Read {id: task} of the lines that name one, from a file that `read_items` has checked."""
    with Path(path).open(encoding="utf-8") as handle:
        items = (json.loads(line) for line in handle)
        return {str(item["id"]): str(item["task"]) for item in items if item.get("task")}
