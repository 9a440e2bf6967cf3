"""Predictions of a model for rows, and the same as a table on disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pilotfish.records import Example, Floats, Texts


@dataclass(frozen=True)
class Predictions:
    """Answers of one model to n rows."""

    label: Texts  # [n] "" where there is none
    reason: Texts  # [n] why an answer is missing or not whole; "" where nothing is wrong
    confidence: Floats  # [n] in [0, 1]; nan where unknown
    log_probs: Floats | None = None  # [n, K] in nats, of classifiers
    states: Floats | None = None  # [n, d] hidden states, of classifiers

    def to_table(self, rows: Sequence[Example]) -> pa.Table:
        """Arrange as columns: id, label, reason, confidence, and matrices as lists."""
        columns: dict[str, Any] = {
            "id": pa.array([row.id for row in rows], pa.string()),
            "label": pa.array([str(label) for label in self.label], pa.string()),
            "reason": pa.array([str(reason) for reason in self.reason], pa.string()),
            "confidence": pa.array(self.confidence, pa.float64()),
        }
        for name, values in (("log_probs", self.log_probs), ("states", self.states)):
            if values is not None:
                flat = pa.array(np.asarray(values, dtype=np.float64).ravel(), pa.float64())
                columns[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        return pa.table(columns)

    @classmethod
    def from_table(cls, table: pa.Table) -> "Predictions":
        """Read what `to_table` arranged."""

        def texts(name: str) -> Texts:
            return np.array(table.column(name).to_pylist(), dtype=object)

        def matrix(name: str) -> Floats | None:
            if name not in table.column_names:
                return None
            lists = table.column(name).combine_chunks()
            lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) else lists
            flat: Floats = lists.flatten().to_numpy(zero_copy_only=False)
            return flat.reshape(len(table), -1)

        confidence = table.column("confidence").to_numpy()
        return cls(
            texts("label"), texts("reason"), confidence, matrix("log_probs"), matrix("states")
        )


def is_correct(rows: Sequence[Example], labels: Texts) -> NDArray[np.bool_]:
    """Whether each label [n] is the row's own answer, outer white space aside; [n] bool."""
    pairs = zip(rows, labels, strict=True)
    return np.array([row.response.strip() == label for row, label in pairs], dtype=bool)
