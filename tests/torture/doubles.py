"""Doubles of the disk: every step that changes a run is counted, and can kill, fail or be lost.

`forked` stands for a process: it does its work in a copy of this one, in which all libraries are
loaded already, and what happens to it there happens to nobody else.
"""

import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from pilotfish.errors import PilotfishError
from pilotfish.store import fs_ops

STEPS = (
    "write_bytes", "append", "fsync_file", "fsync_dir", "replace", "make_dir", "unlink",
    "remove_tree",
)  # fmt: skip
ALLOCATING = STEPS[:6]  # what a full disk refuses
KILLED = -signal.SIGKILL

Act = Callable[[int, str, tuple[Any, ...]], None]


def forked(work: Callable[[], object]) -> int:
    """The exit code of `work` as a process of its own; minus the signal that killed it."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os._exit(_code(work))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _code(work: Callable[[], object]) -> int:
    try:
        work()
    except PilotfishError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stderr.flush()
    return 0


def on_every_step(before: Act, after: Act | None = None) -> None:
    """From now on call `before` (and `after`) with the number, name and arguments of each step."""
    count = 0

    def watch(name: str) -> None:
        real = getattr(fs_ops, name)

        def step(*args: Any) -> None:
            nonlocal count
            count += 1
            mine = count
            before(mine, name, args)
            real(*args)
            if after is not None:
                after(mine, name, args)

        setattr(fs_ops, name, step)

    for name in STEPS:
        watch(name)


def kill_at(number: int) -> None:
    """Let step `number` kill this process; what it writes is cut in half."""

    def before(here: int, name: str, args: tuple[Any, ...]) -> None:
        if here == number:
            if name in ("write_bytes", "append"):
                with args[0].open("ab") as handle:
                    handle.write(args[1][: len(args[1]) // 2])
            die()

    on_every_step(before)


def die() -> NoReturn:
    """As kill -9 does it."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still here")


def fail_at(number: int, error: int, *, for_good: bool) -> None:
    """Let step `number` fail, once or with all after it; deleting works on a full disk too."""

    def before(here: int, name: str, args: tuple[Any, ...]) -> None:
        if name in ALLOCATING and (here == number or (for_good and here > number)):
            raise OSError(error, os.strerror(error), str(args[0]))

    on_every_step(before)


def count_into(path: Path) -> None:
    """Write the name of every step of this process into a file, one a line."""

    def before(here: int, name: str, args: tuple[Any, ...]) -> None:
        with path.open("a") as handle:
            handle.write(f"{name}\n")

    on_every_step(before)


@dataclass
class File:
    """What a disk knows of one file: what was written, and what of it will outlive a power cut."""

    current: bytes = b""
    durable: bytes | None = None


@dataclass
class Disk:
    """The names and bytes of a folder, as far as a disk has promised to keep them.

    A name is kept once its folder was synced after it was given or taken; bytes once their file
    was. `pending` holds what was not: (folder that decides, what to do, path, file).
    """

    root: Path
    names: dict[Path, File | None] = field(default_factory=dict)  # durable; None: a folder
    seen: dict[Path, File] = field(default_factory=dict)  # as processes see it
    pending: list[tuple[Path, str, Path, Any]] = field(default_factory=list)
    forgetful: frozenset[str] = frozenset()  # steps that are not done: negative controls

    @classmethod
    def of(cls, root: Path, *, forgetful: frozenset[str] = frozenset()) -> "Disk":
        """A disk that holds a folder safely as it stands."""
        disk = cls(root, forgetful=forgetful)
        for path in sorted(root.rglob("*")):
            file = None if path.is_dir() else File(path.read_bytes(), path.read_bytes())
            disk.names[path] = file
            if file is not None:
                disk.seen[path] = file
        return disk

    def after(self, here: int, name: str, args: tuple[Any, ...]) -> None:
        """Take note of a step that was done."""
        if name not in self.forgetful:
            getattr(self, f"_{name}")(*args)

    def cut(self, persists: Callable[[], bool], tear: Callable[[bytes], bytes]) -> None:
        """Make the folder what a power cut leaves: what else than the durable `persists`, and what
        becomes of bytes that were never synced.
        """
        names = dict(self.names)
        for _, what, path, file in self.pending:
            if persists():
                _apply(names, what, path, file)
        fs_ops.remove_tree(self.root)
        self.root.mkdir(parents=True, exist_ok=True)
        for path, kept in names.items():
            if all(folder in names for folder in _above(self.root, path)):
                _put(path, kept, tear)

    def _fsync_file(self, path: Path) -> None:
        file = self._file(path)
        file.current = file.durable = path.read_bytes()

    def _fsync_dir(self, folder: Path) -> None:
        for entry in [each for each in self.pending if each[0] == folder]:
            _apply(self.names, *entry[1:])
            self.pending.remove(entry)

    def _write_bytes(self, path: Path, data: bytes) -> None:
        self._file(path).current = data

    def _append(self, path: Path, data: bytes) -> None:
        self._file(path).current = path.read_bytes()

    def _replace(self, source: Path, target: Path) -> None:
        file = self.seen.pop(source, None) or File(target.read_bytes())
        self.seen[target] = file
        self.pending.append((target.parent, "move", target, (source, file)))

    def _make_dir(self, path: Path) -> None:
        self.pending.append((path.parent, "dir", path, None))

    def _unlink(self, path: Path) -> None:
        self.seen.pop(path, None)
        self.pending.append((path.parent, "unlink", path, None))

    def _remove_tree(self, path: Path) -> None:
        for each in [each for each in self.seen if each.is_relative_to(path)]:
            del self.seen[each]
        self.pending.append((path.parent, "tree", path, None))

    def _file(self, path: Path) -> File:
        if path not in self.seen:
            self.seen[path] = File(path.read_bytes())
            self.pending.append((path.parent, "link", path, self.seen[path]))
        return self.seen[path]


def _apply(names: dict[Path, File | None], what: str, path: Path, file: Any) -> None:
    if what == "dir":
        names[path] = None
    elif what == "link":
        names[path] = file
    elif what == "move":
        names.pop(file[0], None)
        names[path] = file[1]
    else:
        for each in [each for each in names if each.is_relative_to(path)]:
            del names[each]


def _above(root: Path, path: Path) -> list[Path]:
    """The folders between the root and a path."""
    return [each for each in path.parents if each != root and each.is_relative_to(root)]


def _put(path: Path, kept: File | None, tear: Callable[[bytes], bytes]) -> None:
    if kept is None:
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tear(kept.current) if kept.durable is None else kept.durable)


def power_cut_at(number: int, disk: Disk, state: Path) -> None:
    """Let step `number` cut the power: what the disk knows by then goes into a file."""

    def before(here: int, name: str, args: tuple[Any, ...]) -> None:
        if here == number:
            state.write_bytes(pickle.dumps(disk))
            die()

    on_every_step(before, disk.after)
