"""All benchmarks, a process each, then the tables: `python -m benchmarks [--quick]`.

Quick runs write to build/benchmarks, so that they never pass for results; others to
benchmarks/results, from which docs/benchmarks.md is made.
"""

import argparse
import subprocess
import sys
import time

from benchmarks.machine import RESULTS, ROOT

PARTS = (
    *("engine", "growth", "agreement", "audited_cut", "geometry", "memory", "gpu"),
    *("pgr_coverage", "aa_calibration", "efficiency_coverage", "plan_accuracy", "canaries"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", help="parts by commas")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else PARTS
    folder = ROOT / "build/benchmarks" if options.quick else RESULTS
    here = [name for name in wanted if (ROOT / f"benchmarks/{name}.py").is_file()]
    failed = [name for name in here if not run(name, folder, quick=options.quick)]
    if not options.quick:
        subprocess.run([sys.executable, "-m", "benchmarks.tables"], cwd=ROOT, check=True)
    print(f"failed: {', '.join(failed)}" if failed else f"all in {folder.relative_to(ROOT)}")
    return 1 if failed else 0


def run(name: str, folder: object, *, quick: bool) -> bool:
    """One part in a process of its own; whether it ended well."""
    begin = time.monotonic()
    words = [f"benchmarks.{name}", "--out", f"{folder}/{name}.json", *["--quick"] * quick]
    print(f"{name} ...", flush=True)
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT)
    print(f"{name}: exit {done.returncode} after {time.monotonic() - begin:.0f} s", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    raise SystemExit(main())
