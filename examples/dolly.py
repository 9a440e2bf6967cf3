"""A real run on a laptop: Dolly, scored by the 260K-parameter TinyStories model.

    python examples/dolly.py --data FOLDER --out runs/dolly
    python examples/dolly.py --data FOLDER --out runs/slice --limit 400 --set train.max_steps=20

FOLDER holds `instruct/dolly.jsonl.gz` and `models/tinystories_260k/`. The script converts the weak
model, builds an untrained strong one with its tokenizer, and runs `dolly.yaml` with the ordinary
command. Many rows are longer than the weak model's window: how many cannot be scored is printed.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def step(*command: str | Path) -> None:
    """Show a command, run it, stop where it fails."""
    words = [str(word) for word in command]
    print("$", " ".join(words), flush=True)
    done = subprocess.run(words, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def make_models(stories: Path, out: Path) -> tuple[Path, Path]:
    """The converted weak model and a strong one with the same tokenizer, below `out`."""
    weak, strong = out / "weak", out / "strong"
    convert, build = HERE / "convert_tinystories.py", HERE / "make_small_llama.py"
    checkpoint, tokenizer = stories / "checkpoint_v1.bin", stories / "tokenizer.bin"
    step(sys.executable, convert, checkpoint, tokenizer, "--out", weak)
    step(sys.executable, build, "--tokenizer", weak, "--out", strong)
    return weak, strong


def scored_and_not(run: Path) -> list[str]:
    """For each score: how many rows have one, and why the others have none."""
    lines = []
    for name, facts in json.loads((run / "run.json").read_text())["scores"].items():
        missing = facts["unscorable"] or "none"
        lines.append(f"{name}: {facts['scorable']:,} rows scored; unscorable: {missing}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of real data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="only this many rows")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE")
    chosen = parser.parse_args()
    weak, strong = make_models(chosen.data / "models" / "tinystories_260k", chosen.out / "models")
    data = chosen.data / "instruct" / "dolly.jsonl.gz"
    settings = [
        f"data={data}",
        f"weak={weak}",
        f"strong={strong}",
        *([f"limit={chosen.limit}"] if chosen.limit else []),
        *chosen.set,
    ]
    flags = [word for setting in settings for word in ("--set", setting)]
    pilotfish = (sys.executable, "-m", "pilotfish")
    limit = ["--limit", str(chosen.limit)] if chosen.limit else []
    # `run` holds some rows out for judging; here every row is scored.
    how = ["--weak", weak, "--method", "superfiltering", "--max-length", "512"]
    step(*pilotfish, "score", data, *how, *limit, "--out", chosen.out / "all")
    print("\n".join(scored_and_not(chosen.out / "all")))
    step(*pilotfish, "run", HERE / "dolly.yaml", "--out", chosen.out / "run", *flags)


if __name__ == "__main__":
    main()
