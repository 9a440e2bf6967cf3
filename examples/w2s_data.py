"""Rows for the weak-to-strong examples that need a mapping, as jsonl in a folder of their own.

    python examples/w2s_data.py --data FOLDER --out runs/w2s-data

FOLDER holds `classify/agnews_dev.tsv` (text, tab, topic; no header) and `classify/TREC.train`
(`COARSE:fine question`, Latin-1). Written are `agnews.jsonl` and `trec.jsonl` (its six coarse
classes), rows of {"text", "label"}, and `world.jsonl`, clean rows of the tiny world of
`pilotfish demo`. `--only NAME` writes one of them. SST-2 needs no such step: see `w2s_sst2.yaml`.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

Row = dict[str, str]


def agnews(data: Path) -> Iterator[Row]:
    """News with one of four topics."""
    for line in (data / "classify" / "agnews_dev.tsv").read_text(encoding="utf-8").split("\n"):
        text, tab, label = line.rpartition("\t")
        if tab:
            yield {"text": text, "label": label.strip()}


def trec(data: Path) -> Iterator[Row]:
    """Questions with the coarse one of their two classes."""
    for line in (data / "classify" / "TREC.train").read_text(encoding="latin-1").split("\n"):
        kind, _, text = line.partition(" ")
        if text.strip():
            yield {"text": text.strip(), "label": kind.partition(":")[0]}


def world(data: Path) -> Iterator[Row]:
    """Short tasks with known answers; nothing is read."""
    from pilotfish.demo.build import build

    with tempfile.TemporaryDirectory() as folder:
        made = build(folder, seed=7, pool_rows=3000, dirty="clean", trusted_rows=1, test_rows=1)
        for line in made.pool.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            yield {"prompt": row["prompt"], "completion": row["completion"]}


MAKERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "agnews": agnews, "trec": trec, "world": world,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("."), help="the folder of real data")
    parser.add_argument("--out", type=Path, default=Path("runs/w2s-data"))
    parser.add_argument("--only", choices=sorted(MAKERS))
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    for name in [chosen.only] if chosen.only else sorted(MAKERS):
        rows = list(MAKERS[name](chosen.data))
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (chosen.out / f"{name}.jsonl").write_text(text, encoding="utf-8")
        print(f"{chosen.out / name}.jsonl: {len(rows):,} rows")


if __name__ == "__main__":
    main()
