"""Where and how numbers were made: facts of the machine, and the JSON that holds both."""

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
# What decides which matrix products are fast on a CPU.
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "pyarrow")


def parser(about: str) -> argparse.ArgumentParser:
    """The options every part takes."""
    made = argparse.ArgumentParser(description=about.splitlines()[0])
    made.add_argument("--quick", action="store_true", help="minutes instead of tens of minutes")
    made.add_argument("--out", type=Path, help="JSON file; default: benchmarks/results/NAME.json")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--threads", type=int, help="torch threads; default: one for each core")
    return made


def settle(options: argparse.Namespace) -> None:
    """Set the threads of torch, all cores unless said otherwise; transformers keeps quiet."""
    # Imported here: parts without a model use this file too.
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    options.threads = options.threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(options.threads)


def write(name: str, options: argparse.Namespace, results: dict[str, Any]) -> None:
    """Commit results with the machine, the commit, the seed and the command that made them."""
    path = options.out or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {
        "benchmark": name,
        "command": command(name, sys.argv[1:]),
        "seed": options.seed,
        "quick": options.quick,
        "commit": commit(),
        "machine": machine(),
        **results,
    }
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def command(name: str, arguments: list[str]) -> str:
    """What to type to get the numbers again, without where they were put."""
    kept, skip = [], False
    for word in arguments:
        if not skip and not word.startswith("--out"):
            kept.append(word)
        skip = word == "--out"
    return " ".join(["python -m", f"benchmarks.{name}", *kept])


def machine() -> dict[str, Any]:
    """Facts that move a measured number; no name of the host, no path."""
    import torch

    gpu = torch.cuda.is_available()
    return {
        "cpu": cpu_name(),
        "flags": [flag for flag in FLAGS if flag in _cpuinfo("flags").split()],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if gpu else None,
        "python": platform.python_version(),
        **{name: installed(name) for name in PACKAGES},
    }


def cpu_name() -> str:
    """The processor as it calls itself, else the architecture."""
    return _cpuinfo("model name") or platform.machine()


def _cpuinfo(field: str) -> str:
    """The first line of that name in Linux' description of the processors, else nothing."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    found = (line.partition(":")[2].strip() for line in lines if line.startswith(field))
    return next(found, "")


def status(field: str) -> int:
    """MiB that Linux says of this process; 0 where there is no such file.

    Not `ru_maxrss`: a child inherits that from whoever started it.
    """
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith(field)), 0)


def installed(package: str) -> str | None:
    """The version of a package, None where it is absent."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit() -> str:
    """The commit in the working tree, with `+` where the sources differ from it, else unknown."""
    found = _git("rev-parse", "HEAD")
    return f"{found}{'+' if _git('status', '--porcelain', '--', 'src') else ''}" or "unknown"


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
