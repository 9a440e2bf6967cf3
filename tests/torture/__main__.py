"""Write what the sweeps reached into docs/promises.md: `python -m tests.torture FIGURES.jsonl`.

What stands between the two marks is written anew; a promise that nothing told of says so.
"""

import json
import os
import platform
import re
import sys
from collections import defaultdict
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "promises.md"
BLOCK = re.compile(r"(<!-- figures -->\n).*?(<!-- end -->)", re.DOTALL)
PROMISES = [*(f"R{number}" for number in range(1, 18)), *(f"S{number}" for number in range(1, 6))]


def table(lines: list[str]) -> str:
    """The block: for each promise what was reached, and by which test."""
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    for told in sorted(map(json.loads, lines), key=lambda told: (told["test"], told["figure"])):
        found[told["promise"]].append(told)
    rows = ["| # | reached | test |", "|---|---|---|"]
    for promise in PROMISES:
        rows += [
            f"| {promise} | {told['figure']} | `{told['test'].replace('|', ' ')}` |"
            for told in found[promise]
        ] or [f"| {promise} | nothing in this run | |"]
    return "\n".join([_machine(), "", *rows, ""])


def _machine() -> str:
    cores = len(os.sched_getaffinity(0))
    return (
        f"`make torture`, {cores} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}:"
    )


def main() -> None:
    """Read the figures of one run, write the page."""
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    text = PAGE.read_text(encoding="utf-8")
    made = table(lines)
    PAGE.write_text(BLOCK.sub(lambda mark: mark[1] + made + mark[2], text), encoding="utf-8")
    print(made)


if __name__ == "__main__":
    main()
