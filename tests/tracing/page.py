"""Write the way of one row through `score`, `select` and `run` into docs/architecture.md.

`python -m tests.tracing.page` replaces the lists between the markers; tests/tracing/test_page.py
holds that they are what the tracer sees.
"""

import ast
import os
import re
import tempfile
from pathlib import Path

from tests.tracing.scenarios import traces
from tests.tracing.tracer import ROOT, Trace

PAGE = ROOT / "docs" / "architecture.md"
SOURCE = ROOT / "src" / "pilotfish"
_BLOCK = "<!-- way: {name} -->\n(.*?)<!-- end -->"


def purpose(file: str) -> str:
    """Return the first line of a file's docstring, without its full stop."""
    doc = ast.get_docstring(ast.parse((SOURCE / file).read_text(encoding="utf-8"))) or ""
    return doc.partition("\n")[0].removesuffix(".")


def listed(name: str, text: str) -> list[str]:
    """Return the files that the page lists for a command, in order."""
    block = re.search(_BLOCK.format(name=name), text, re.DOTALL)
    assert block, f"{PAGE.name} has no list for `{name}`"
    return re.findall(r"^\d+\. `([^`]+)`", block[1], re.MULTILINE)


def written(name: str, trace: Trace, text: str) -> str:
    """Return the page with the list of a command replaced by what a trace entered."""
    lines = [f"{at}. `{file}`: {purpose(file)}\n" for at, file in enumerate(trace.files, 1)]
    count = f"{len(trace.files)} files, {len(trace.functions)} functions:\n\n"
    block = f"<!-- way: {name} -->\n{count}{''.join(lines)}<!-- end -->"
    return re.sub(_BLOCK.format(name=name), lambda _: block, text, flags=re.DOTALL)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as place:
        page = PAGE.read_text(encoding="utf-8")
        for command, found in traces(Path(place)).items():
            page = written(command, found, page)
        PAGE.write_text(page, encoding="utf-8")
