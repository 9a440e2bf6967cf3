"""Inspect DATA: report what reading it would find, without writing anything."""

from dataclasses import dataclass
from typing import Any

from pilotfish.config.data import Source
from pilotfish.data.first_pass import BadRecord, FirstPass, Parser
from pilotfish.records import Example

SHOWN_BAD = 10
SHOWN_GOOD = 3


@dataclass(frozen=True)
class Inspection:
    """The findings of reading DATA once."""

    schema: str  # name of the format, "" where no record could be parsed at all
    columns: tuple[str, ...]  # columns of the first records, in the order met
    sources: tuple[str, ...]
    rows_in: int  # records read
    rows: int  # records that become rows
    quarantined: dict[str, int]  # reason -> records
    quarantine: tuple[dict[str, Any], ...]  # the first lines that quarantine.jsonl would hold
    examples: tuple[Example, ...]  # the first rows
    fingerprint: str
    warnings: tuple[str, ...]  # about how the data was read


def inspect(source: Source) -> Inspection:
    """Read DATA once and report its content. Too many bad records are shown, not refused.

    Args:
        source: DATA and how to read it; `max_bad_rate` is not used.

    Raises:
        UsageError: Wrong path, mapping or format, as for `read`.
    """
    parser = Parser.open(source)
    first, good, bad = FirstPass(parser), list[Example](), list[BadRecord]()
    for item in first.run():
        if isinstance(item, BadRecord):
            bad += [item] if len(bad) < SHOWN_BAD else []
        elif len(good) < SHOWN_GOOD:
            good.append(item)
    return Inspection(
        schema=parser.schema,
        columns=parser.columns,
        sources=tuple(each.name for each in parser.sources),
        rows_in=first.rows_in,
        rows=first.rows,
        quarantined=first.reasons,
        quarantine=tuple(each.line() for each in bad),
        examples=tuple(example for example, _ in first.identify(good)),
        fingerprint=first.fingerprint(),
        warnings=tuple(first.warnings()),
    )
