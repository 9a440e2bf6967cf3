"""Where rows are read from."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Source:
    """What is read and how: the same options wherever data is read."""

    data: str
    mapping: dict[str, str] = field(default_factory=dict)
    limit: int | None = None
    max_bad_rate: float = 0.01
    dataset_config: str | None = None
    split: str | None = None
    revision: str | None = None
