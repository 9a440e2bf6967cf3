"""A run folder and run.json, which records what a run is made of so that reuse can be refused."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pilotfish._version import __version__
from pilotfish.errors import UsageError
from pilotfish.store import fs_ops
from pilotfish.store.commit import Store


class Run:
    """A run folder: its store, its manifest run.json and its event log.

    Sections of run.json: `data`, `pool`, `weak`, `scores` {NAME: ...}, `selections` {NAME: ...},
    `test`, `evidence`, `warnings`, `config`, `status` (see docs/architecture.md). No times and no
    hosts: those go to events.jsonl, which resume never reads.
    """

    def __init__(self, root: Path | str) -> None:
        self.store = Store(root)
        self.root = Path(root)
        self.spent = 0.0  # seconds in the cost events of this object

    @property
    def manifest(self) -> dict[str, Any]:
        """The current run.json ({} for a new run)."""
        return self.store.read_json("run.json") or {}

    def section(self, name: str) -> dict[str, Any]:
        """Return one section of run.json, {} when absent."""
        found = self.manifest.get(name, {})
        return found if isinstance(found, dict) else {}

    def update(self, **sections: Any) -> None:
        """Replace whole sections of run.json atomically."""
        self.store.write_json("run.json", {**self.manifest, "pilotfish": __version__, **sections})

    def fix(self, section: str, value: Mapping[str, Any], *, force: bool = False) -> bool:
        """Write a section once; another value later is refused.

        Args:
            section: The section of run.json.
            value: Its content.
            force: Replace another value.

        Returns:
            Whether it was written: False where the same value is there already.

        Raises:
            UsageError: The section holds another value; names each key that changed.
        """
        plain = json.loads(json.dumps(value))
        old = self.section(section)
        if old == plain:
            return False
        if old and not force:
            changed = sorted(k for k in {*old, *plain} if old.get(k) != plain.get(k))
            raise UsageError(
                f"{self.root} was made with another {section}: {', '.join(changed)} changed",
                hint="choose another --out, or pass --force to redo what depends on it",
            )
        self.update(**{section: plain})
        return True

    def event(self, kind: str, **facts: Any) -> None:
        """Append one line to events.jsonl, for people and for the ledger."""
        line = json.dumps({"kind": kind, "at": round(time.time(), 3), **facts}) + "\n"
        path = self.root / "events.jsonl"
        with fs_ops.disk_errors():
            fs_ops.make_dirs(self.root)
            # a line that a crash cut short must not swallow the one after it
            fs_ops.append(path, (_ends_mid_line(path) * "\n" + line).encode())

    def cost(self, stage: str, name: str, **facts: float) -> None:
        """Record what a stage cost: seconds, and rows, tokens, flops where known."""
        self.spent += facts.get("seconds", 0.0)
        self.event("cost", stage=stage, name=name, **facts)


def _ends_mid_line(path: Path) -> bool:
    """Return whether a file's last line has no newline."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as handle:
        handle.seek(-1, os.SEEK_END)
        return handle.read(1) != b"\n"
