"""Commit protocol: a group of files becomes visible as one, its manifest written last.

Data without a valid manifest is garbage and is overwritten. A manifest names every file of its
group with sha256 and size; it holds no times, hosts or pids, so that a rerun is byte-identical.
"""

import hashlib
import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pilotfish.errors import DamagedRun
from pilotfish.store import primitives

TEMP = ".tmp-"


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file, read in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def dump_json(value: Any) -> bytes:
    """Strict (no NaN), sorted, readable JSON bytes: the same value gives the same bytes."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    # a lone surrogate becomes its JSON escape instead of an error
    return (text + "\n").encode("utf-8", "backslashreplace")


def _rel(root: Path, target: Path) -> str:
    return str(target.relative_to(root))


class Attempt:
    """One try at writing a group of files; nothing is visible until it ends well."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._folder = folder
        self.meta: dict[str, Any] = {}
        self._pending: list[tuple[Path, Path]] = []

    def path(self, rel: str) -> Path:
        """A temp path to write; it gets the name `rel` (below the run) at commit."""
        temp = self._folder / f"{len(self._pending):04d}-{Path(rel).name}"
        self._pending.append((temp, self._root / rel))
        return temp

    def scratch(self, name: str) -> Path:
        """A temp path that is not committed: it is gone when the attempt ends."""
        return self._folder / f"scratch-{name}"

    def folder(self, rel: str) -> Path:
        """A temp folder to fill; each file in it lands below `rel` at commit."""
        temp = self._folder / f"{len(self._pending):04d}-dir"
        temp.mkdir()
        self._pending.append((temp, self._root / rel))
        return temp

    def files(self) -> list[tuple[Path, Path]]:
        """(temp, target) of every file written, folders opened up."""
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
        """Absolute path of a name below the run; refuses to leave it."""
        target = (self.root / rel).resolve()
        if not target.is_relative_to(self.root.resolve()):
            raise ValueError(f"'{rel}' leaves the run folder")
        return self.root / rel

    @contextmanager
    def attempt(self, manifest: str) -> Iterator[Attempt]:
        """Write a group: fill `attempt.path(...)`, set `attempt.meta`; committed on clean exit.

        Order on disk: every data file (fsync, rename, fsync of its folder), then the manifest.
        """
        with primitives.disk_errors():
            self.root.mkdir(parents=True, exist_ok=True)
            folder = self.root / f"{TEMP}{secrets.token_hex(8)}"
            folder.mkdir()
            try:
                attempt = Attempt(self.root, folder)
                yield attempt
                self._commit(attempt, manifest)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _commit(self, attempt: Attempt, manifest: str) -> None:
        files = [(temp, target, _rel(self.root, target)) for temp, target in attempt.files()]
        listed = {
            rel: {"sha256": sha256_file(temp), "bytes": temp.stat().st_size}
            for temp, _, rel in files
        }
        value = {**attempt.meta, "files": listed}
        if self._stands(manifest, value):
            return
        self._drop_leftovers(manifest, {*listed})
        # An old manifest must not vouch for new data, not even for a moment.
        self.forget(manifest)
        for temp, target, _ in files:
            self._land(temp, target)
        self.write_json(manifest, value)

    def _stands(self, manifest: str, value: Mapping[str, Any]) -> bool:
        """Whether the same is there already, so that a late worker withdraws nothing."""
        found = self.manifest(manifest)
        return found is not None and dump_json(found) == dump_json(value)

    def _drop_leftovers(self, manifest: str, fresh: set[str]) -> None:
        """Remove files of the old group that the new one lacks: loaders of folders would see them.

        While the old manifest still names them, so that a crash in between is made good.
        """
        try:
            old = (self.read_json(manifest) or {}).get("files")
        except DamagedRun:
            return
        for rel in sorted({*old} - fresh) if isinstance(old, dict) else ():
            self.path(rel).unlink(missing_ok=True)

    def _land(self, temp: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        primitives.fsync_file(temp)
        primitives.replace(temp, target)
        primitives.fsync_dir(target.parent)

    def forget(self, manifest: str) -> None:
        """Withdraw a manifest: its files are garbage from now on."""
        path = self.root / manifest
        if path.exists():
            path.unlink(missing_ok=True)  # another worker may do the same
            primitives.fsync_dir(path.parent)

    def write_json(self, rel: str, value: Mapping[str, Any]) -> None:
        """Atomically write one strict JSON file."""
        self.write_bytes(rel, dump_json(value))

    def write_bytes(self, rel: str, data: bytes) -> None:
        """Atomically write one small file."""
        with primitives.disk_errors():
            target = self.path(rel)
            target.parent.mkdir(parents=True, exist_ok=True)
            temp = target.parent / f"{TEMP}{secrets.token_hex(8)}"
            try:
                primitives.write_bytes(temp, data)
                self._land(temp, target)
            finally:
                temp.unlink(missing_ok=True)

    def read_json(self, rel: str) -> dict[str, Any] | None:
        """A JSON object below the run; None when absent; DamagedRun when unreadable."""
        path = self.path(rel)
        if not path.exists():
            return None
        try:
            value = json.loads(path.read_bytes())
        except ValueError as error:
            raise DamagedRun(f"{rel} is not readable JSON: {error}") from error
        if not isinstance(value, dict):
            raise DamagedRun(f"{rel} does not hold a JSON object")
        return value

    def manifest(self, rel: str) -> dict[str, Any] | None:
        """A group's manifest where it and every file it names are intact, else None."""
        try:
            found = self.read_json(rel)
        except DamagedRun:
            return None
        if found is None or not isinstance(found.get("files"), dict):
            return None
        return found if not self.damage(found) else None

    def damage(self, manifest: Mapping[str, Any]) -> list[str]:
        """The files of a manifest that are missing or changed, by name."""
        return [rel for rel, facts in manifest["files"].items() if not self._intact(rel, facts)]

    def _intact(self, rel: str, facts: Any) -> bool:
        try:
            path, size, digest = self.path(rel), facts["bytes"], facts["sha256"]
        except (KeyError, TypeError, ValueError):  # the manifest itself was changed
            return False
        return path.is_file() and path.stat().st_size == size and sha256_file(path) == digest

    def require(self, rel: str) -> dict[str, Any]:
        """A manifest that must be there and intact; DamagedRun names what is not."""
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
        """Remove what interrupted attempts left behind; only under the run's lock."""
        for left in self.root.rglob(f"{TEMP}*"):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
