"""Find the sources that DATA names: a file, a folder, a glob, a saved dataset, or a hub id."""

import difflib
import glob
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pilotfish.config.data import Source
from pilotfish.data.readers.files import FileSource, kind_of, known_kinds
from pilotfish.data.readers.hub import choose_split, hub_source
from pilotfish.data.readers.raw_record import RecordSource
from pilotfish.errors import DataError, UsageError

# Files that libraries write next to the data, with endings like data
NOT_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
# Endings of files that we do not read; no hub id has them
FILE_LIKE = {".txt", ".gz", ".zip", ".tar", ".zst", ".xz", ".bz2", ".xlsx", ".yaml", ".yml", ".md"}
_HUB_ID = re.compile(r"[\w][\w.\-]*(/[\w][\w.\-]*)?")


def locate(source: Source) -> list[RecordSource]:
    """Find the record sources of DATA, ordered by name.

    Data that exists locally never touches the network.

    Raises:
        UsageError: The path does not exist or holds nothing readable, or options about hub
            datasets were given for local data.
        DataError: A saved dataset lacks a file.
    """
    path = Path(source.data).expanduser()
    if path.is_dir() and any((path / n).is_file() for n in ("state.json", "dataset_dict.json")):
        return [*_saved_dataset(path, source.split)]
    files = _local_files(path, source.data)
    if files is None:
        return [hub_source(source)]
    if any((source.dataset_config, source.split, source.revision)):
        raise UsageError(
            f"'{source.data}' is local: dataset_config, split and revision are for hub data"
        )
    return [*files]


def _local_files(path: Path, typed: str) -> list[FileSource] | None:
    """Return the files of a local DATA, None where the text can only be a hub id."""
    if path.is_file():
        if kind_of(path) is None:
            raise UsageError(f"cannot read '{typed}'", hint=f"known files: {known_kinds()}")
        return [FileSource(path, path.name)]
    if path.is_dir():
        return _data_files(path, path.rglob("*"), typed)
    if glob.has_magic(typed):
        fixed = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
        hits = glob.glob(str(path), recursive=True)
        return _data_files(Path(*path.parts[:fixed]), map(Path, hits), typed)
    if _is_path(path, typed):
        raise _missing(path, typed)
    return None


def _data_files(root: Path, paths: Iterable[Path], typed: str) -> list[FileSource]:
    named: list[tuple[str, Path]] = []
    for path in paths:
        below = path.relative_to(root)
        hidden = any(part.startswith(".") for part in below.parts)
        if not hidden and path.name not in NOT_DATA and path.is_file() and kind_of(path):
            named.append((below.as_posix(), path))
    if not named:
        raise UsageError(f"'{typed}' holds no data", hint=f"known files: {known_kinds()}")
    return [FileSource(path, name) for name, path in sorted(named)]


def _is_path(path: Path, typed: str) -> bool:
    """Return whether a DATA that does not exist reads as a path and not as a hub id."""
    return (
        not _HUB_ID.fullmatch(typed)
        or kind_of(path) is not None
        or path.suffix.lower() in FILE_LIKE
        or (len(path.parts) > 1 and Path(path.parts[0]).is_dir())
    )


def _missing(path: Path, typed: str) -> UsageError:
    if path.exists():
        return UsageError(
            f"'{typed}' is neither a file nor a folder",
            hint="rows are read twice: write what comes through a pipe to a file first",
        )
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    hint = f"did you mean '{path.with_name(near[0])}'?" if near else "check the path"
    return UsageError(f"there is no file or folder '{typed}'", hint=hint)


def _saved_dataset(root: Path, split: str | None) -> list[FileSource]:
    """Return the files of a folder written by `save_to_disk` of the datasets library."""
    folder = root
    if (root / "dataset_dict.json").is_file():
        splits = _read_json(root / "dataset_dict.json").get("splits", [])
        folder = root / choose_split(str(root), splits, split)
    elif split is not None:
        raise UsageError(f"'{root}' is one split, there is no '{split}' to choose")
    # In the order the dataset has them, which is not always that of their names
    listed = _read_json(folder / "state.json").get("_data_files", [])
    paths = [folder / Path(entry["filename"]).name for entry in listed]
    missing = [path.name for path in paths if not path.is_file()]
    if missing or not paths:
        raise DataError(f"the saved dataset {folder} lacks {', '.join(missing) or 'any data'}")
    return [FileSource(path, path.relative_to(root).as_posix()) for path in paths]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return value if isinstance(value, dict) else {}
