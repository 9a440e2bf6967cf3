"""Source: where rows are read from, and how."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Source:
    """A dataset and the options it is read with; the same wherever data is read.

    Attributes:
        data: DATA: a local file, a folder or glob of files, or a hub dataset id.
        mapping: Name of a field that pilotfish reads -> name of the column that holds it.
        limit: Read only so many rows; None: all.
        max_bad_rate: Share of records that may be bad, in [0, 1].
        dataset_config: Configuration of a hub dataset.
        split: Split of a hub dataset.
        revision: Revision of a hub dataset.
    """

    data: str
    mapping: dict[str, str] = field(default_factory=dict)
    limit: int | None = None
    max_bad_rate: float = 0.01
    dataset_config: str | None = None
    split: str | None = None
    revision: str | None = None
