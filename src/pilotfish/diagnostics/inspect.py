"""inspect: report the schema found, one row rendered with its loss mask, and the counts."""

from dataclasses import dataclass
from typing import Any

from pilotfish.config.data import Source
from pilotfish.data import Inspection
from pilotfish.data import inspect as inspect_data
from pilotfish.errors import DataError, need_torch


@dataclass(frozen=True)
class DataReport:
    """The counts of some data, and one row as the weak model would see it."""

    found: Inspection
    rendered: tuple[tuple[str, bool], ...]  # (text, supervised) pieces of the row
    template: str  # the name of the template that rendered it

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for `--json`."""
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
        """How many records would be quarantined."""
        return sum(self.found.quarantined.values())

    def lines(self) -> list[str]:
        """Return the summary as text, with supervised text between [[ and ]]."""
        found = self.found
        shown = "".join(f"[[{text}]]" if trained else text for text, trained in self.rendered)
        lines = [
            f"schema: {found.schema}",
            f"columns: {', '.join(found.columns)}",
            f"rows: {found.rows:,} usable, {self.bad:,} would be quarantined",
            *(f"  {reason}: {count:,}" for reason, count in sorted(found.quarantined.items())),
            *(f"warning: {text}" for text in found.warnings),
            f"one row ({self.template}; text that is trained on is in [[ ]]):",
            *(f"  {line}" for line in shown.split("\n")),
        ]
        return lines

    def error(self, max_bad_rate: float) -> DataError | None:
        """Return the error that a run would stop with, if any.

        Args:
            max_bad_rate: The share of bad records that is accepted, in [0, 1].
        """
        if self.bad > max_bad_rate * self.found.rows_in:
            return DataError(
                f"{self.bad:,} of {self.found.rows_in:,} records are bad, more than "
                f"--max-bad-rate {max_bad_rate:g} allows",
                hint="repair the file, or raise --max-bad-rate",
            )
        return None if self.found.rows else DataError("there is no usable row in the data")


def inspect_source(source: Source, *, model: str | None = None) -> DataReport:
    """Inspect data without writing anything.

    Args:
        source: The data, and how to read it.
        model: Render by the template of this model; None: by the plain template.

    Raises:
        UsageError: The data or the model cannot be found.
    """
    found = inspect_data(source)
    first = found.examples[0] if found.examples else None
    if first is None:
        return DataReport(found, (), "no usable row")
    from pilotfish.tokenization import render

    if model is None:
        pieces, template = render(first, None, "plain"), "plain template"
    else:
        need_torch("rendering with a model's template")
        from pilotfish.models import load_tokenizer

        tokenizer = load_tokenizer(model)
        pieces = render(first, tokenizer)
        kind = "chat template" if getattr(tokenizer, "chat_template", None) else "plain template"
        template = f"{kind} of {model}"
    return DataReport(found, tuple((piece.text, piece.supervised) for piece in pieces), template)
