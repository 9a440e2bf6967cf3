"""DATA as typed -> the sources it names: a file, a folder, a glob, a saved dataset, or a hub id."""

import difflib
import glob
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pilotfish.data.readers.files import FileSource, kind_of, known_kinds
from pilotfish.data.readers.hub import choose_split, hub_source
from pilotfish.data.readers.raw_record import RawRecord
from pilotfish.errors import DataError, UsageError

# What libraries leave beside the data, in files that end like data
NOT_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
# Endings that no hub id has, but a file somebody hoped we could read does
FILE_LIKE = {".txt", ".gz", ".zip", ".tar", ".zst", ".xz", ".bz2", ".xlsx", ".yaml", ".yml", ".md"}
_HUB_ID = re.compile(r"[\w][\w.\-]*(/[\w][\w.\-]*)?")


class Source(Protocol):
    """One stream of records."""

    @property
    def name(self) -> str:
        """Path relative to DATA; the split's name for a hub dataset."""

    def sha256(self) -> str:
        """Digest of what the source holds."""

    def pieces(self) -> Iterator[RawRecord]:
        """Its records in order, from the start on every call."""


@dataclass(frozen=True, slots=True)
class HubOptions:
    """Which part of a hub dataset; `split` also chooses from a saved dataset."""

    config: str | None = None
    split: str | None = None
    revision: str | None = None


NO_OPTIONS = HubOptions()


def locate(data: str | Path, options: HubOptions = NO_OPTIONS) -> list[Source]:
    """The sources of DATA, ordered by name. What exists locally never touches the network.

    Raises UsageError for a path that is not there or holds nothing readable.
    """
    path = Path(data).expanduser()
    if path.is_dir() and _is_saved(path):
        return _saved(path, options.split)
    found = _local(path, str(data))
    if found is None:
        return [
            hub_source(str(data), options.config, split=options.split, revision=options.revision)
        ]
    if any((options.config, options.split, options.revision)):
        raise UsageError(f"'{data}' is local: dataset_config, split and revision are for hub data")
    return found


def _local(path: Path, typed: str) -> list[Source] | None:
    """Files of a local DATA; None where the text can only be a hub id."""
    if path.is_file():
        if kind_of(path) is None:
            raise UsageError(f"cannot read '{typed}'", hint=f"known files: {known_kinds()}")
        return [FileSource(path, path.name)]
    if path.is_dir():
        return _sorted(path, (p for p in path.rglob("*") if _is_data(p, path)), typed)
    if glob.has_magic(typed):
        root = _fixed_part(path)
        hits = (Path(hit) for hit in glob.glob(str(path), recursive=True))
        return _sorted(root, (p for p in hits if _is_data(p, root)), typed)
    if _is_path(path, typed):
        raise _not_there(path, typed)
    return None


def _is_data(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return not hidden and path.name not in NOT_DATA and path.is_file() and kind_of(path) is not None


def _sorted(root: Path, paths: Iterator[Path], typed: str) -> list[Source]:
    named = sorted((path.relative_to(root).as_posix(), path) for path in paths)
    if not named:
        raise UsageError(f"'{typed}' holds no data", hint=f"known files: {known_kinds()}")
    return [FileSource(path, name) for name, path in named]


def _fixed_part(path: Path) -> Path:
    """The folders of a glob before its first wildcard."""
    parts = path.parts
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first])


def _is_path(path: Path, typed: str) -> bool:
    """Whether a DATA that is not there was meant as a path, so that the network is left alone."""
    return (
        not _HUB_ID.fullmatch(typed)
        or kind_of(path) is not None
        or path.suffix.lower() in FILE_LIKE
        or (len(path.parts) > 1 and Path(path.parts[0]).is_dir())
    )


def _not_there(path: Path, typed: str) -> UsageError:
    if path.exists():
        raise UsageError(
            f"'{typed}' is neither a file nor a folder",
            hint="rows are read twice: write what comes through a pipe to a file first",
        )
    beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=1)
    hint = f"did you mean '{path.with_name(near[0])}'?" if near else "check the path"
    return UsageError(f"there is no file or folder '{typed}'", hint=hint)


def _is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` of the datasets library wrote this folder."""
    return any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))


def _saved(folder: Path, split: str | None) -> list[Source]:
    if not (folder / "dataset_dict.json").is_file():
        if split is not None:
            raise UsageError(f"'{folder}' is one split, there is no '{split}' to choose")
        return _saved_split(folder, folder)
    splits = _json(folder / "dataset_dict.json").get("splits", [])
    return _saved_split(folder, folder / choose_split(str(folder), splits, split))


def _saved_split(root: Path, folder: Path) -> list[Source]:
    # In the order the dataset has them, which is not always that of their names
    listed = _json(folder / "state.json").get("_data_files", [])
    paths = [folder / Path(entry["filename"]).name for entry in listed]
    missing = [path.name for path in paths if not path.is_file()]
    if missing or not paths:
        raise DataError(f"the saved dataset {folder} lacks {', '.join(missing) or 'any data'}")
    return [FileSource(path, path.relative_to(root).as_posix()) for path in paths]


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return value if isinstance(value, dict) else {}
