"""How long selecting from 100,000 scored rows takes, as JSON: `python benchmarks/select_100k.py`.

Makes a run with a pool and made-up scores in a temporary folder (not timed), then times in a fresh
process each: importing, a selection of 10%, a token budget, and the length-matched control.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pilotfish.config.data import Source
from pilotfish.data import read
from pilotfish.store import Run

STEPS = {
    "import": "",
    "percent": 'select(root, SelectConfig("superfiltering", "10%"))',
    "tokens": 'select(root, SelectConfig("superfiltering", "1Mtokens", "tokens"))',
    "length_matched": 'draw_control(RunContext(Run(root)), Control("length_matched"))',
}
TIMED = """
import sys, time
start = time.perf_counter()
from pilotfish.run_context import RunContext
from pilotfish.selection.controls import Control, draw_control
from pilotfish.selection.select import SelectConfig, select
from pilotfish.store import Run
root = sys.argv[1]
{step}
assert "torch" not in sys.modules
print(time.perf_counter() - start)
"""


def make_run(root: Path, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.geometric(1 / 80, rows)
    data = root / "rows.jsonl"
    with data.open("w") as handle:
        for i in range(rows):
            record = {"instruction": f"Question {i}", "input": "", "output": "word " * lengths[i]}
            handle.write(json.dumps(record) + "\n")
    run = Run(root / "run")
    pool = read(Source(str(data)), run.store)
    scores = np.exp(rng.normal(-0.3, 0.3, rows)).round(4)
    bad = rng.random(rows) < 0.02
    found = pool.columns("id", "source", "row")
    status = np.where(bad, "unscorable", "ok").astype(object)
    table = {
        "id": pa.array(found["id"], pa.string()),
        "source": pa.array(found["source"], pa.string()),
        "row": pa.array(found["row"], pa.int64()),
        "n_prompt_tokens": pa.array(rng.integers(5, 60, rows), pa.int64()),
        "n_response_tokens": pa.array(lengths, pa.int64()),
        "truncated": pa.array(np.zeros(rows, bool), pa.bool_()),
        "superfiltering": pa.array(np.where(bad, 0.0, scores), pa.float64(), mask=bad),
        "superfiltering_status": pa.array(status, pa.string()),
        "superfiltering_reason": pa.array(
            np.where(bad, "too_few_tokens", None), pa.string(), mask=~bad
        ),
    }
    with run.store.attempt("scores.json") as attempt:
        pq.write_table(pa.table(table), attempt.path("scores.parquet"), compression="zstd")
        attempt.meta = {"pool": pool.fingerprint, "rows": rows}
    run.update(scores={"superfiltering": {"method": "superfiltering"}})


def seconds(step: str, root: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-c", TIMED.format(step=step), str(root)],
        capture_output=True,
        text=True,
        check=True,
    )
    return round(float(done.stdout), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        make_run(Path(folder), options.rows, options.seed)
        times = {name: seconds(step, Path(folder) / "run") for name, step in STEPS.items()}
    machine = {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pyarrow": pa.__version__,
    }
    print(
        json.dumps(
            {
                "benchmark": "select_100k",
                "machine": machine,
                "commit": commit.strip(),
                "config": {"rows": options.rows, "seed": options.seed},
                "seconds_with_import": times,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
