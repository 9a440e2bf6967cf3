"""Peak memory of score and select at 100,000 and 1,000,000 rows: `python -m benchmarks.memory`.

Each command runs in a process of its own, which says the most memory it ever held. The promise
(R17): ten times the rows, at most 1.2 times the memory. The data is made up; the weak model is the
one that the demo ships.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT, parser, write

WEAK = ROOT / "src" / "pilotfish" / "demo" / "weights" / "weak"
PROMISE = 1.2
# Linux counts what a process held before it became this program into ru_maxrss, so that a heavy
# parent would be measured; VmHWM begins anew with the program.
CHILD = """
import sys
from pathlib import Path
from pilotfish.cli.main import run
code = run(sys.argv[1:])
status = Path("/proc/self/status").read_text()
print(int(status.partition("VmHWM:")[2].split()[0]))
sys.exit(code)
"""


def commands(data: Path, out: Path) -> dict[str, list[str]]:
    """Name -> command line, in the order in which they build on each other."""
    select = ["select", str(out), "--method"]
    return {
        "score": ["score", str(data), "--quiet", "--weak", str(WEAK), "--out", str(out),
                  "--method", "perplexity(direction=low)", "--as", "nll"],
        "score another": ["score", str(out), "--quiet", "--weak", str(WEAK), "--out", str(out),
                          "--method", "longest"],
        "select 10%": [*select, "nll", "--direction", "low", "--budget", "10%"],
        "select 1%": [*select, "nll", "--direction", "low", "--budget", "1%", "--as", "one"],
        "select tokens": [*select, "longest", "--budget", "100ktokens", "--as", "tokens"],
        "select random": [*select, "random", "--budget", "10%", "--as", "random"],
    }  # fmt: skip


def write_rows(path: Path, count: int, seed: int) -> None:
    """Short alpaca rows, all distinct."""
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8") as handle:
        for i in range(count):
            words = "".join(rng.choice("abcdefgh") for _ in range(rng.randint(2, 8)))
            row = {"instruction": f"copy {i}: {words}", "input": "", "output": words}
            handle.write(json.dumps(row) + "\n")


def peak(words: list[str]) -> dict[str, float]:
    """MiB at the peak of one command, and its seconds."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *words], capture_output=True, text=True, cwd=ROOT
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr}")
    seconds = round(time.perf_counter() - start, 1)
    return {"peak_mib": round(int(done.stdout.split()[-1]) / 1024, 1), "seconds": seconds}


def measured(count: int, seed: int) -> dict[str, dict[str, float]]:
    """Every command over `count` rows."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "rows.jsonl"
        write_rows(data, count, seed)
        found = {}
        for name, words in commands(data, Path(folder) / "run").items():
            found[name] = peak(words)
            print(f"{count:>9,} rows  {name:<14} {found[name]}", file=sys.stderr, flush=True)
        return found


def main() -> None:
    options_of = parser(__doc__ or "")
    options_of.add_argument("--rows", type=int, nargs=2, default=(100_000, 1_000_000))
    options = options_of.parse_args()
    few, many = (20_000, 200_000) if options.quick else options.rows
    sizes = {count: measured(count, options.seed) for count in (few, many)}
    ratios = {
        name: round(sizes[many][name]["peak_mib"] / sizes[few][name]["peak_mib"], 3)
        for name in sizes[few]
    }
    results: dict[str, Any] = {
        "rows": {str(count): found for count, found in sizes.items()},
        "ratio": ratios,
        "promise": PROMISE,
        "kept": all(ratio <= PROMISE for ratio in ratios.values()),
    }
    write("memory", options, results)
    for name, ratio in ratios.items():
        low, high = (sizes[count][name]["peak_mib"] for count in (few, many))
        print(f"{name:<14} {low:>8} -> {high:>8} MiB  x{ratio}")


if __name__ == "__main__":
    main()
