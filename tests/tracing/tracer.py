"""Record the named functions of a folder of sources that are entered, in every thread.

Module bodies, class bodies, lambdas and comprehensions are not counted. Processes that the command
starts (workers, ranks) are not followed.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CO_OPTIMIZED = 0x1  # set for functions, clear for module and class bodies


@dataclass
class Trace:
    """What was entered.

    Attributes:
        files: Paths below the traced folder, in the order in which each was first entered.
        functions: `path:qualified.name` of each function, in the same order.
    """

    files: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{number:4} {name}" for number, name in enumerate(self.files, 1)]
        counts = f"files {len(self.files)}, functions {len(self.functions)}"
        return "\n".join([*lines, counts])


class Tracer:
    """A context in which calls into `folder` are recorded, in this thread and in new ones."""

    def __init__(self, folder: Path) -> None:
        self._prefix = f"{folder.resolve()}{os.sep}"
        self._seen: dict[CodeType, None] = {}

    def __enter__(self) -> "Tracer":
        threading.setprofile(self._enter)
        sys.setprofile(self._enter)
        return self

    def __exit__(self, *_: Any) -> None:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]

    def _enter(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            self._seen[frame.f_code] = None

    @property
    def trace(self) -> Trace:
        """What was entered so far."""
        found = [code for code in list(self._seen) if self._counts(code)]
        names = [code.co_filename[len(self._prefix) :] for code in found]
        functions = [
            f"{name}:{code.co_qualname}:{code.co_firstlineno}"
            for name, code in zip(names, found, strict=True)
        ]
        return Trace(list(dict.fromkeys(names)), functions)

    def _counts(self, code: CodeType) -> bool:
        named = not code.co_name.startswith("<") and bool(code.co_flags & CO_OPTIMIZED)
        # templates compiled to Python carry the name of their .html file
        ours = code.co_filename.startswith(self._prefix) and code.co_filename.endswith(".py")
        return named and ours


def trace_command(words: Sequence[str], **environment: str) -> Trace:
    """Run `pilotfish WORDS` in a fresh process and return what it entered of src/pilotfish.

    Raises RuntimeError where the command fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "trace.json"
        call = [sys.executable, "-m", "tests.tracing", "--write", str(out), *words]
        done = subprocess.run(
            call, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr}")
        return Trace(**json.loads(out.read_text()))
