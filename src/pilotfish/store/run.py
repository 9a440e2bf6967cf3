"""run.json: what a run is made of, so that reuse can be refused by name of what changed."""

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
    `test`, `evidence`, `warnings`, `config`, `status` (docs/architecture.md says what is in them).
    No times and no hosts: those go to events.jsonl, which resume never reads.
    """

    def __init__(self, root: Path | str) -> None:
        self.store = Store(root)
        self.root = Path(root)
        self.spent = 0.0  # seconds that cost events of this object told of

    @property
    def manifest(self) -> dict[str, Any]:
        """run.json as it stands ({} for a new run)."""
        return self.store.read_json("run.json") or {}

    def section(self, name: str) -> dict[str, Any]:
        """One section of run.json, {} when absent."""
        found = self.manifest.get(name, {})
        return found if isinstance(found, dict) else {}

    def update(self, **sections: Any) -> None:
        """Replace whole sections of run.json atomically."""
        self.store.write_json("run.json", {**self.manifest, "pilotfish": __version__, **sections})

    def fix(self, section: str, value: Mapping[str, Any], *, force: bool = False) -> bool:
        """Write a section once. The same value again is reuse (False); another one is refused.

        Raises UsageError naming each key that changed, unless `force`.
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
            # a line that a crash tore must not swallow the one after it
            fs_ops.append(path, (_torn(path) * "\n" + line).encode())

    def cost(self, stage: str, name: str, **facts: float) -> None:
        """Record what a stage cost: seconds, and rows, tokens, flops where known."""
        self.spent += facts.get("seconds", 0.0)
        self.event("cost", stage=stage, name=name, **facts)


def _torn(path: Path) -> bool:
    """Whether a file's last line has no end."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as handle:
        handle.seek(-1, os.SEEK_END)
        return handle.read(1) != b"\n"
