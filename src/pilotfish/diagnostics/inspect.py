"""inspect: the schema found, one row rendered with its loss mask, the counts."""

from dataclasses import dataclass
from typing import Any

from pilotfish.config.data import Source
from pilotfish.data import Inspection
from pilotfish.data import inspect as inspect_data
from pilotfish.errors import DataError
from pilotfish.extras import need_torch
from pilotfish.records import Example

PREVIEW = 5


@dataclass(frozen=True)
class DataReport:
    """What `inspect` found, and one row as the weak model would see it."""

    found: Inspection
    rendered: tuple[tuple[str, bool], ...]  # (text, supervised)
    template: str

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        mask = [{"text": text, "supervised": supervised} for text, supervised in self.rendered]
        found = self.found
        return {
            "schema": found.schema,
            "columns": list(found.columns),
            "sources": list(found.sources),
            "rows_in": found.rows_in,
            "rows": found.rows,
            "quarantined": found.quarantined,
            "quarantine": list(found.quarantine),
            "fingerprint": found.fingerprint,
            "warnings": list(found.warnings),
            "rendered": mask,
            "template": self.template,
        }

    @property
    def bad(self) -> int:
        """Records that would be quarantined."""
        return sum(self.found.quarantined.values())

    def lines(self) -> list[str]:
        """For people: supervised text stands between [[ and ]]."""
        found = self.found
        shown = "".join(f"[[{text}]]" if learn else text for text, learn in self.rendered)
        lines = [
            f"schema: {found.schema}",
            f"columns: {', '.join(found.columns)}",
            f"rows: {found.rows:,} usable, {self.bad:,} would be quarantined",
            *(f"  {reason}: {count:,}" for reason, count in sorted(found.quarantined.items())),
            *(f"warning: {text}" for text in found.warnings),
            f"one row ({self.template}; what is learnt stands in [[ ]]):",
            *(f"  {line}" for line in shown.split("\n")),
        ]
        return lines

    def trouble(self, max_bad_rate: float) -> DataError | None:
        """The error (exit 3) a run would stop with, if any."""
        if self.bad > max_bad_rate * self.found.rows_in:
            return DataError(
                f"{self.bad:,} of {self.found.rows_in:,} records are bad, more than "
                f"--max-bad-rate {max_bad_rate:g} allows",
                hint="mend the file, or raise --max-bad-rate",
            )
        return None if self.found.rows else DataError("there is no usable row in the data")


def inspect_source(source: Source, *, model: str | None = None) -> DataReport:
    """Inspect DATA without writing anything; with a model, render by its own template."""
    found = inspect_data(source)
    first = found.examples[0] if found.examples else None
    if first is None:
        return DataReport(found, (), "no usable row")
    if model is None:
        return DataReport(found, _plainly(first), "plain template")
    need_torch("rendering with a model's template")
    from pilotfish.models import load_tokenizer
    from pilotfish.tokenization import render

    tokenizer = load_tokenizer(model)
    segments = tuple((piece.text, piece.supervised) for piece in render(first, tokenizer))
    kind = "chat template" if getattr(tokenizer, "chat_template", None) else "plain template"
    return DataReport(found, segments, f"{kind} of {model}")


def _plainly(example: Example) -> tuple[tuple[str, bool], ...]:
    from pilotfish.tokenization import render

    return tuple((piece.text, piece.supervised) for piece in render(example, None, "plain"))
