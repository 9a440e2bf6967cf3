"""Commit protocol: a group of files becomes visible as one, its manifest written last.

Data without a valid manifest is garbage and is overwritten. A manifest names every file of its
group with sha256 and size; it holds no times, hosts or pids, so that a rerun is byte-identical.
"""

import hashlib
import json
import logging
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pilotfish.errors import DamagedRun, UsageError
from pilotfish.store import fs_ops

SEAL = "seal"
# Only the outermost object's keys are indented by two; a line feed inside a text is escaped.
_LINE = re.compile(rb'\n  "seal": "([0-9a-f]{64}|)"')


def with_checksum(value: Mapping[str, Any]) -> bytes:
    """Return the bytes of a JSON object with its seal.

    Raises:
        ValueError: Strict JSON cannot hold the value (NaN).
    """
    text = json.dumps(
        {**value, SEAL: ""}, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False
    )
    # a lone surrogate becomes its JSON escape instead of an error
    blank = (text + "\n").encode("utf-8", "backslashreplace")
    return _LINE.sub(_line(hashlib.sha256(blank).hexdigest()), blank, count=1)


def checked_json(data: bytes, name: str) -> dict[str, Any]:
    """Return a sealed JSON object without its seal.

    Raises:
        DamagedRun: The bytes are not those that were written; says `name`.
    """
    line = _LINE.search(data)
    blank = _LINE.sub(_line(""), data, count=1)
    if line is None or line[1].decode() != hashlib.sha256(blank).hexdigest():
        raise DamagedRun(
            f"{name} is not what was committed: its seal does not match",
            hint="make it again with --force, or take the run from a backup",
        )
    found: dict[str, Any] = json.loads(data)
    del found[SEAL]
    return found


def _line(digest: str) -> bytes:
    return f'\n  "{SEAL}": "{digest}"'.encode()


TEMP = ".tmp-"
_LOG = logging.getLogger(__name__)


def sha256_file(path: Path) -> str:
    """Return the hex sha256 of a file, read in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class Attempt:
    """An attempt to write a group of files; nothing is visible until it succeeds."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._folder = folder
        self.meta: dict[str, Any] = {}
        self._pending: list[tuple[Path, Path]] = []

    def path(self, rel: str) -> Path:
        """Return a temp path to write; it gets the name `rel` (below the run) at commit."""
        temp = self._folder / f"{len(self._pending):04d}-{Path(rel).name}"
        self._pending.append((temp, self._root / rel))
        return temp

    def scratch(self, name: str) -> Path:
        """Return a temp path that is not committed and is deleted when the attempt ends."""
        return self._folder / f"scratch-{name}"

    def folder(self, rel: str) -> Path:
        """Return a temp folder to fill; its files are moved below `rel` at commit."""
        temp = self._folder / f"{len(self._pending):04d}-dir"
        fs_ops.make_dir(temp)
        self._pending.append((temp, self._root / rel))
        return temp

    def json(self, rel: str, value: Mapping[str, Any]) -> None:
        """Write a sealed JSON file, to be committed with the group."""
        self.path(rel).write_bytes(with_checksum(value))

    def files(self) -> list[tuple[Path, Path]]:
        """Return (temp, target) of every file written, folders expanded."""
        pairs: list[tuple[Path, Path]] = []
        for temp, target in self._pending:
            if temp.is_dir():
                inner = sorted(p for p in temp.rglob("*") if p.is_file())
                pairs += [(p, target / p.relative_to(temp)) for p in inner]
            else:
                pairs.append((temp, target))
        return pairs


class Store:
    """Reads and commits files below one run folder."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def path(self, rel: str) -> Path:
        """Return the path of a name below the run.

        Raises:
            UsageError: The name leads out of the run folder.
        """
        target = (self.root / rel).resolve()
        if not target.is_relative_to(self.root.resolve()):
            raise UsageError(
                f"'{rel}' leaves the run folder",
                hint="a run holds no links and no paths out of it: choose another --out",
            )
        return self.root / rel

    @contextmanager
    def attempt(self, manifest: str) -> Iterator[Attempt]:
        """Write a group of files that is committed when the context ends without an error.

        Order on disk: every data file (fsync, rename, fsync of its folder), then the manifest.

        Args:
            manifest: Name of the group's manifest, below the run.

        Yields:
            The attempt: write to `attempt.path(...)`, and set `attempt.meta`.

        Raises:
            DiskError: The disk is full, or another I/O error.
        """
        with fs_ops.disk_errors():
            fs_ops.make_dirs(self.root)
            folder = self.root / f"{TEMP}{secrets.token_hex(8)}"
            fs_ops.make_dir(folder)
            try:
                attempt = Attempt(self.root, folder)
                yield attempt
                self._commit(attempt, manifest)
            finally:
                fs_ops.remove_tree(folder)

    def _commit(self, attempt: Attempt, manifest: str) -> None:
        files = attempt.files()
        listed = {
            str(target.relative_to(self.root)): {
                "sha256": sha256_file(temp),
                "bytes": temp.stat().st_size,
            }
            for temp, target in files
        }
        value = {**attempt.meta, "files": listed}
        found, bad = self._read_group(manifest)
        if found is not None and not bad and with_checksum(found) == with_checksum(value):
            return  # the same is committed already, so a late worker withdraws nothing
        self._remove_leftovers(manifest, {*listed})
        # An old manifest must not name new data, not even for a moment.
        self.forget(manifest)
        _rename(files)
        self.write_json(manifest, value)

    def _remove_leftovers(self, manifest: str, fresh: set[str]) -> None:
        """Remove files of the old group that the new one lacks: loaders of folders would see them.

        The old manifest still names them, so a rerun repairs a crash in between.
        """
        try:
            old = (self.read_json(manifest) or {}).get("files")
        except DamagedRun:
            return
        for rel in sorted({*old} - fresh) if isinstance(old, dict) else ():
            self.remove(rel)

    def forget(self, manifest: str) -> None:
        """Withdraw a manifest, which makes its files garbage."""
        self.remove(manifest)

    def remove(self, rel: str) -> None:
        """Delete one file durably; another worker may do the same."""
        path = self.path(rel)
        if path.exists():
            with fs_ops.disk_errors():
                fs_ops.unlink(path)
                fs_ops.fsync_dir(path.parent)

    def remove_folder(self, rel: str) -> None:
        """Delete a folder of files that no manifest names any more."""
        path = self.path(rel)
        if path.is_dir():
            with fs_ops.disk_errors():
                fs_ops.remove_tree(path)
                fs_ops.fsync_dir(path.parent)

    def write_json(self, rel: str, value: Mapping[str, Any]) -> None:
        """Write one sealed JSON file atomically."""
        data = with_checksum(value)
        with fs_ops.disk_errors():
            target = self.path(rel)
            fs_ops.make_dirs(target.parent)
            temp = target.parent / f"{TEMP}{secrets.token_hex(8)}"
            try:
                fs_ops.write_bytes(temp, data)
                _rename([(temp, target)])
            finally:
                if temp.exists():
                    fs_ops.unlink(temp)

    def read_json(self, rel: str) -> dict[str, Any] | None:
        """Return a sealed JSON object below the run, None when absent.

        Raises:
            DamagedRun: It is not as it was written.
        """
        path = self.path(rel)
        return checked_json(path.read_bytes(), rel) if path.exists() else None

    def manifest(self, rel: str) -> dict[str, Any] | None:
        """Return a group's manifest where it and every file it names are intact, else None.

        Damaged files are named in a warning of the log; the caller makes them again.
        """
        found, bad = self._read_group(rel)
        if bad:
            _LOG.warning("%s in %s: damaged, not used", ", ".join(bad), self.root)
        return None if bad else found

    def holds(self, rel: str, facts: Mapping[str, Any]) -> bool:
        """Return whether a group is intact and its manifest has all of `facts`, as JSON."""
        found = self.manifest(rel)
        return found is not None and {**found, **json.loads(json.dumps(facts))} == found

    def _read_group(self, rel: str) -> tuple[dict[str, Any] | None, list[str]]:
        """Return a manifest, and the damaged files of its group."""
        try:
            found = self.read_json(rel)
        except DamagedRun:
            return None, [rel]
        if found is None:
            return None, []
        if not isinstance(found.get("files"), dict):
            return None, [rel]
        return found, self.damage(found)

    def damage(self, manifest: Mapping[str, Any]) -> list[str]:
        """Return the files of a manifest that are missing or changed, by name."""
        return [rel for rel, facts in manifest["files"].items() if not self._intact(rel, facts)]

    def _intact(self, rel: str, facts: Any) -> bool:
        try:
            path, size, digest = self.path(rel), facts["bytes"], facts["sha256"]
        except (KeyError, TypeError, UsageError):  # the manifest itself was changed
            return False
        return path.is_file() and path.stat().st_size == size and sha256_file(path) == digest

    def require(self, rel: str) -> dict[str, Any]:
        """Return a manifest that must exist and be intact.

        Raises:
            DamagedRun: It is missing, or files of its group are damaged; names them.
        """
        found = self.read_json(rel)
        if found is None:
            raise DamagedRun(f"{rel} is missing from {self.root}")
        if bad := self.damage(found):
            raise DamagedRun(
                f"{', '.join(bad)} in {self.root} does not match its manifest {rel}",
                hint="run the step that made it again with --force",
            )
        return found

    def sweep(self) -> None:
        """Remove what interrupted attempts left behind. Call it under the run's lock."""
        for left in self.root.rglob(f"{TEMP}*"):
            if left.is_dir():
                fs_ops.remove_tree(left)
            else:
                fs_ops.unlink(left)


def _rename(files: Sequence[tuple[Path, Path]]) -> None:
    """Give finished temp files their names; everything is durable when this returns."""
    for temp, _ in files:
        fs_ops.fsync_file(temp)
    folders = dict.fromkeys(target.parent for _, target in files)
    for folder in folders:
        fs_ops.make_dirs(folder)
    for temp, target in files:
        fs_ops.replace(temp, target)
    for folder in folders:
        fs_ops.fsync_dir(folder)
