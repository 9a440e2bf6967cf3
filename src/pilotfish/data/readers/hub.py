"""A hub dataset through the `datasets` library, imported only when a hub id was asked for."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pilotfish.data.readers.raw_record import RawRecord
from pilotfish.data.readers.tables import batch_pieces
from pilotfish.errors import MissingExtra, UsageError


@dataclass(frozen=True)
class HubSource:
    """One split of a loaded dataset; its name stands where files have their path."""

    name: str
    dataset: Any

    def sha256(self) -> str:
        """Digest of the records, because a hub dataset is no file."""
        sha = hashlib.sha256()
        for piece in self.pieces():
            sha.update(piece.data + b"\n")
        return sha.hexdigest()

    def pieces(self) -> Iterator[RawRecord]:
        """Its records; pictures and sounds stay as they are stored, undecoded."""
        return batch_pieces(self.dataset.with_format("arrow").iter(batch_size=1000))


def hub_source(
    name: str, config: str | None, *, split: str | None, revision: str | None
) -> HubSource:
    """Load a hub dataset. Raises MissingExtra without `datasets`, UsageError where it fails."""
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra(
            f"there is no local '{name}', and reading it from a hub", "hub"
        ) from error
    try:
        found = datasets.load_dataset(name, config, split=split, revision=revision)
    except Exception as error:  # the library and its HTTP client raise anything
        raise UsageError(
            f"there is no local '{name}', and as a hub dataset it cannot be loaded: {error}",
            hint="check the name, the network and HF_TOKEN, or give a local path",
        ) from error
    if isinstance(found, dict):  # a DatasetDict: one dataset per split
        split = choose_split(name, list(found), split)
        found = found[split]
    return HubSource(split or "train", found)


def choose_split(name: str, splits: Sequence[str], wanted: str | None) -> str:
    """The wanted split, else the only one, else `train`; UsageError names what there is."""
    if wanted is None:
        wanted = splits[0] if len(splits) == 1 else "train"
    if wanted not in splits:
        raise UsageError(
            f"'{name}' has no split '{wanted}'. Splits: {', '.join(splits)}.",
            hint="choose one with --split",
        )
    return wanted
