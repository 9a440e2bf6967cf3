"""Peak memory of one contender, in a process of its own: `python -m benchmarks.footprint NAME`.

Prints JSON: MiB resident once the model is loaded, and at the peak of one run.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.contenders import Stage
from benchmarks.machine import ROOT, status
from benchmarks.rows import read


def footprint(name: str, stage: Stage, *, threads: int) -> dict[str, int]:
    """Start that process and read what it prints."""
    words = [name, str(stage.model), str(stage.data), str(stage.max_length), str(threads)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.footprint", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for word, kind in (("name", str), ("model", Path), ("data", Path)):
        parser.add_argument(word, type=kind)
    parser.add_argument("max_length", type=int)
    parser.add_argument("threads", type=int)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        rows = tuple(read(given.data))
        stage = Stage(given.model, given.data, rows, Path(folder), given.max_length)
        contender = stage.make(given.name)
        loaded = status("VmRSS")
        contender.run()
    print(json.dumps({"loaded_mib": loaded, "peak_mib": status("VmHWM")}))


if __name__ == "__main__":
    main()
