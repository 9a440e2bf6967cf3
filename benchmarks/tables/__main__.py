"""Write docs/benchmarks.md anew; with `--check`, only say by the exit code whether it is right."""

import argparse
from pathlib import Path

from benchmarks.tables import page

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    old = PAGE.read_text(encoding="utf-8")
    new = page(old, ROOT / "benchmarks" / "results")
    if not options.check:
        PAGE.write_text(new, encoding="utf-8")
    return int(options.check and old != new)


if __name__ == "__main__":
    raise SystemExit(main())
