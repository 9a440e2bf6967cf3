"""inspect: what reading DATA would find, without writing anything."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotfish.data.ingest import NOTHING, count, new_census
from pilotfish.data.parse import BadRecord, prepare
from pilotfish.data.readers.locate import HubOptions, locate
from pilotfish.records import Example

SHOWN_BAD = 10
SHOWN_GOOD = 3


@dataclass(frozen=True)
class Inspection:
    """What was found. `schema` is "" where no record could be parsed at all.

    columns: of the first records, in the order met. quarantined: reason -> records.
    quarantine: the first lines quarantine.jsonl would hold. examples: the first rows.
    """

    schema: str
    columns: tuple[str, ...]
    sources: tuple[str, ...]
    rows_in: int
    rows: int
    quarantined: dict[str, int]
    quarantine: tuple[dict[str, Any], ...]
    examples: tuple[Example, ...]
    fingerprint: str
    warnings: tuple[str, ...]


def inspect(
    data: str | Path,
    *,
    mapping: Mapping[str, str] | None = None,
    limit: int | None = None,
    dataset_config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
) -> Inspection:
    """Read DATA once and say what is there; too many bad records are shown, not refused.

    Raises UsageError like `read` (path, mapping, schema).
    """
    sources = locate(data, HubOptions(dataset_config, split, revision))
    scan, sample = prepare(sources, mapping, limit)
    census, good, bad = new_census(scan), list[Example](), list[BadRecord]()
    for item in count(scan, census, NOTHING):
        if isinstance(item, BadRecord):
            bad += [item] if len(bad) < SHOWN_BAD else []
        elif len(good) < SHOWN_GOOD:
            good.append(item)
    return Inspection(
        schema=scan.schema.name if scan.schema else "",
        columns=tuple(dict.fromkeys(column for record in sample for column in record)),
        sources=tuple(source.name for source in sources),
        rows_in=census.rows_in,
        rows=census.rows,
        quarantined=dict(sorted(census.quarantined.items())),
        quarantine=tuple(item.line() for item in bad),
        examples=tuple(example for example, _ in census.identified(good)),
        fingerprint=census.fingerprint(),
        warnings=tuple(census.warnings()),
    )
