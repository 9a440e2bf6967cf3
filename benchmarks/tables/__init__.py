"""Tables of docs/benchmarks.md and docs/statistics.md from JSON alone: `benchmarks.tables`.

What stands between `<!-- from NAME.json -->` and `<!-- end -->` is written anew; nothing there is
typed by hand. One file for each benchmark.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.tables import (
    aa_calibration,
    agreement,
    audited_cut,
    canaries,
    efficiency_coverage,
    engine,
    geometry,
    gpu,
    growth,
    memory,
    pgr_coverage,
    plan_accuracy,
)
from benchmarks.tables.words import Found, provenance

BLOCK = re.compile(r"(<!-- from (\w+)\.json -->\n).*?(<!-- end -->)", re.DOTALL)

TABLES: dict[str, Callable[[Found], Iterator[str]]] = {
    "engine": engine.lines,
    "growth": growth.lines,
    "agreement": agreement.lines,
    "audited_cut": audited_cut.lines,
    "geometry": geometry.lines,
    "memory": memory.lines,
    "gpu": gpu.lines,
    "pgr_coverage": pgr_coverage.lines,
    "plan_accuracy": plan_accuracy.lines,
    "aa_calibration": aa_calibration.lines,
    "efficiency_coverage": efficiency_coverage.lines,
    "canaries": canaries.lines,
}


def page(text: str, results: Path) -> str:
    """The page with every block written anew. Raises KeyError for a benchmark without a table."""
    for _, name, _ in BLOCK.findall(text):
        if name not in TABLES:
            raise KeyError(f"no table is made of {name}.json")
    return BLOCK.sub(lambda found: found[1] + block(found[2], results) + found[3], text)


def block(name: str, results: Path) -> str:
    """What the page says about one benchmark."""
    path = results / f"{name}.json"
    if not path.is_file():
        return f"Not run yet: `python -m benchmarks.{name}`.\n"
    found = json.loads(path.read_text(encoding="utf-8"))
    return "\n".join([*provenance(found), *TABLES[name](found)]).rstrip("\n") + "\n"
