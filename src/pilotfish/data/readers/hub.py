"""A hub dataset, read by the `datasets` library; imported only for a hub id."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pilotfish.config.data import Source
from pilotfish.data.readers.jsonl import RawRecord
from pilotfish.data.readers.tables import read_batches
from pilotfish.errors import MissingExtra, UsageError


@dataclass(frozen=True)
class HubSource:
    """One split of a loaded dataset. Its name takes the role that the path has for files."""

    name: str
    dataset: Any

    def sha256(self) -> str:
        """Return a digest of the records, because a hub dataset is not a file."""
        sha = hashlib.sha256()
        for record in self.records():
            sha.update(record.data + b"\n")
        return sha.hexdigest()

    def records(self) -> Iterator[RawRecord]:
        """Yield the records; images and sounds stay encoded."""
        return read_batches(self.dataset.with_format("arrow").iter(batch_size=1000))


def hub_source(source: Source) -> HubSource:
    """Load a hub dataset.

    Raises:
        MissingExtra: The `datasets` library is not installed.
        UsageError: The dataset cannot be loaded, or the split does not exist.
    """
    name, split = source.data, source.split
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra(
            f"there is no local '{name}', and reading it from a hub", "hub"
        ) from error
    try:
        loaded = datasets.load_dataset(
            name, source.dataset_config, split=split, revision=source.revision
        )
    except Exception as error:  # the library and its HTTP client raise anything
        raise UsageError(
            f"there is no local '{name}', and as a hub dataset it cannot be loaded: {error}",
            hint="check the name, the network and HF_TOKEN, or give a local path",
        ) from error
    if isinstance(loaded, dict):  # a DatasetDict: one dataset per split
        split = choose_split(name, list(loaded), split)
        loaded = loaded[split]
    return HubSource(split or "train", loaded)


def choose_split(name: str, splits: Sequence[str], wanted: str | None) -> str:
    """Choose a split: the wanted one, else the only one, else `train`.

    Raises:
        UsageError: There is no such split; names those that exist.
    """
    if wanted is None:
        wanted = splits[0] if len(splits) == 1 else "train"
    if wanted not in splits:
        raise UsageError(
            f"'{name}' has no split '{wanted}'. Splits: {', '.join(splits)}.",
            hint="choose one with --split",
        )
    return wanted
