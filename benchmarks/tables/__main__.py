"""Write the docs' tables anew; with `--check`, only say by the exit code if they are right."""

import argparse
from pathlib import Path

from benchmarks.tables import page

ROOT = Path(__file__).resolve().parents[2]
PAGES = tuple(ROOT / "docs" / name for name in ("benchmarks.md", "statistics.md"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    wrong = 0
    for path in PAGES:
        old = path.read_text(encoding="utf-8")
        new = page(old, ROOT / "benchmarks" / "results")
        wrong += old != new
        if not options.check:
            path.write_text(new, encoding="utf-8")
    return int(options.check and wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
