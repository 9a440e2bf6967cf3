"""Time and memory of selection at size: `python -m benchmarks.geometry [--threads 2] [--quick]`.

Every algorithm at 10k, 100k and 1M rows of 384 numbers (or texts of some 85 words), each case in a
process of its own that reads the vectors from a file; then against other libraries where they are
installed (scikit-learn, faiss-cpu, datasketch, rensa) and against plain code, in turns inside one
process. Data: Gaussians around 1 centre in 200 rows, a tenth of the rows near-copies of others.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.geometry_peers import peers
from benchmarks.machine import ROOT, installed, parser, settle, status, write
from benchmarks.paired import race, speedup
from pilotfish.diversity import facility_location, k_centre, k_means, near_duplicates
from pilotfish.selection.minhash import near_duplicate_texts

WIDTH = 384
SPREAD = 0.6  # length of the noise beside centres of length 1
LIBRARIES = ("scikit-learn", "faiss-cpu", "datasketch", "rensa")
Run = Callable[[], dict[str, float]]


def vectors(path: Path, count: int, seed: int) -> None:
    """Write the rows to a file, a block at a time."""
    rng = np.random.default_rng(seed)
    centres = unit(rng.standard_normal((max(10, count // 200), WIDTH), dtype=np.float32))
    shape = (count, WIDTH)
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    for start in range(0, count, 20_000):
        many = min(20_000, count - start)
        noise = rng.standard_normal((many, WIDTH), dtype=np.float32) * (SPREAD / WIDTH**0.5)
        block = centres[rng.integers(len(centres), size=many)] + noise
        copies = rng.permutation(many)[: many // 10]
        blur = rng.standard_normal((len(copies), WIDTH), dtype=np.float32) * (0.1 / WIDTH**0.5)
        block[copies] = block[rng.integers(many, size=len(copies))] + blur
        out[start : start + many] = unit(block)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def texts(count: int, seed: int) -> list[str]:
    """Texts of 20 to 150 words, a quarter of them earlier ones with some words changed."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(20_000)])
    drawn: list[np.ndarray] = []
    for i in range(count):
        if i % 4 == 3:
            some = drawn[int(rng.integers(len(drawn)))].copy()
            change = rng.random(len(some)) < rng.choice([0.0, 0.02, 0.1])
            some[change] = rng.integers(20_000, size=int(change.sum()), dtype=np.int32)
        else:
            some = (rng.zipf(1.3, rng.integers(20, 150)) % 20_000).astype(np.int32)
        drawn.append(some)
    return [" ".join(words[some]) for some in drawn]


def cases(rows: np.ndarray, seed: int) -> dict[str, Run]:
    """Name -> one run, which returns facts worth printing."""
    n = len(rows)
    tie = np.random.default_rng(seed).permutation(n)
    k = min(1000, n // 20)

    def clusters(train_rows: int | None) -> dict[str, float]:
        found = k_means(rows, k, tie, steps=10, train_rows=train_rows, seed=seed)
        return {"clusters": k, "steps": found.steps, "inertia": found.inertia}

    def alike() -> dict[str, float]:
        found = near_duplicates(rows, 0.95, tie)
        return {"kept": len(found.kept), "miss": found.miss}

    return {
        "k_centre": lambda: {"k": k, "radius": float(k_centre(rows, k, tie, seed=seed).gain[-1])},
        "facility_location": lambda: {"k": k, **facility_location(rows, k, tie, seed=seed).notes},
        "k_means": lambda: clusters(None),
        "k_means, 64 rows a cluster": lambda: clusters(64 * k),
        "near_duplicates at 0.95": alike,
    }


def text_case(given: list[str], seed: int) -> dict[str, Run]:
    def run() -> dict[str, float]:
        found = near_duplicate_texts(given, 0.8, np.arange(len(given)), seed=seed)
        return {"kept": len(found.kept), "miss": found.miss}

    return {"near_duplicate_texts at 0.8": run}


NAMES = (*cases(np.empty((0, 1)), 0), *text_case([], 0))


def child(name: str, file: Path, count: int, seed: int) -> None:
    """One case in this process: prints seconds, MiB at the peak and what was found."""
    if name.startswith("near_duplicate_texts"):
        run = text_case(texts(count, seed), seed)[name]
    else:
        run = cases(np.load(file, mmap_mode="r"), seed)[name]
    before = status("VmRSS")
    begin = time.perf_counter()
    found = run()
    took = time.perf_counter() - begin
    memory = {"before_mib": before, "peak_mib": status("VmHWM")}
    print(json.dumps({"seconds": round(took, 2), **memory, **found}))


def alone(name: str, file: Path, count: int, options: argparse.Namespace) -> dict[str, float]:
    """One case in a fresh process with so many threads."""
    words = [
        "--child",
        name,
        "--file",
        str(file),
        "--rows",
        str(count),
        "--seed",
        str(options.seed),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.geometry", *words],
        cwd=ROOT,
        env={**os.environ, **threads(options.threads)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{name} at {count} rows failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{count:>9,} rows  {name:<28} {found}", file=sys.stderr, flush=True)
    return found


def threads(count: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
    return dict.fromkeys(names, str(count))


def paired(file: Path, count: int, seed: int, repeats: int) -> None:
    """Ours against others in turns: prints how many times as fast ours was, and the answers."""
    rows = np.load(file)
    found: dict[str, Any] = {}
    for name, contest in peers(rows, texts(count, seed), seed).items():
        times = race(contest, repeats)
        found[name] = {
            other: {
                "seconds": round(min(times[other].rounds), 3),
                "ours_seconds": round(min(times["ours"].rounds), 3),
                "ratio": speedup(times[other], times["ours"]).as_dict(),
                "answer": contest[other].answer,
                "ours_answer": contest["ours"].answer,
            }
            for other in contest
            if other != "ours"
        }
    print(json.dumps(found))


def main() -> None:
    reader = parser(__doc__ or "")
    reader.add_argument("--rows", type=int, nargs="+", help="default: 10000 100000 1000000")
    reader.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    reader.add_argument("--no-peers", action="store_true")
    reader.add_argument("--child", help=argparse.SUPPRESS)
    reader.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = reader.parse_args()
    if options.child == "paired":
        paired(options.file, options.rows[0], options.seed, repeats=2 if options.quick else 5)
    elif options.child:
        child(options.child, options.file, options.rows[0], options.seed)
    else:
        measure(options)


def measure(options: argparse.Namespace) -> None:
    settle(options)
    sizes = options.rows or ([2_000, 10_000] if options.quick else [10_000, 100_000, 1_000_000])
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in sizes:
            file = Path(folder) / "vectors.npy"
            vectors(file, count, options.seed)
            found[str(count)] = {name: alone(name, file, count, options) for name in options.only}
        beside: dict[str, Any] = {}
        if not options.no_peers:
            many = 2_000 if options.quick else 10_000
            vectors(file, many, options.seed)
            beside = {"rows": many, **alone("paired", file, many, options)}
    write("geometry", options, {
        "width": WIDTH,
        "libraries": {name: installed(name) for name in LIBRARIES},
        "rows": found,
        "paired": beside,
    })  # fmt: skip


if __name__ == "__main__":
    main()
