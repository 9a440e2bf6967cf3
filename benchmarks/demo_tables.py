"""The demo's figures as markdown, made from its files: nothing in docs/results.md is typed by hand.

    pilotfish demo --out pilotfish-demo
    python benchmarks/demo_tables.py pilotfish-demo

For each pool: the arms, the comparisons, what each selection holds (the generated truth is known,
and read here alone), and what each stage took.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

CHAPTERS = ("dirty", "clean")
Truth = Mapping[str, Mapping[str, Any]]  # id -> {task, noise, right, ...}


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Lines of one markdown table, and an empty one."""
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def interval(low: float | None, high: float | None, sign: str = "") -> str:
    """`0.77 to 0.92`, or a dash where there is none."""
    return "-" if low is None or high is None else f"{low:{sign}.3f} to {high:{sign}.3f}"


def arms(report: Mapping[str, Any]) -> Iterator[str]:
    """One line per arm, best first."""
    rows = [
        (
            f"`{arm['name']}`",
            "-" if arm["rows"] is None else f"{arm['rows']:,}",
            f"{len(arm['seeds'])}",
            f"{arm['mean']:.3f}",
            interval(arm["low"], arm["high"]),
        )
        for arm in sorted(report["arms"], key=lambda arm: -arm["mean"])
    ]
    return table(("arm", "rows", "seeds", "exact match", "95% interval"), rows)


def comparisons(report: Mapping[str, Any]) -> Iterator[str]:
    """The verdict, then the other pairs with Holm's p."""
    pairs = [{**report["verdict"], "p_holm": None}, *report["comparisons"]]
    rows = [
        (
            f"`{pair['arm']}` - `{pair['against']}`",
            f"{pair['difference']:+.3f}",
            interval(pair["low"], pair["high"], "+"),
            "-" if pair["p_holm"] is None else f"{pair['p_holm']:.2g}",
            pair["outcome"],
        )
        for pair in pairs
    ]
    return table(("difference", "value", "95% interval", "p (Holm)", "outcome"), rows)


def holdings(picked: Mapping[str, list[list[str]]], truth: Truth) -> Iterator[str]:
    """Of the pool and of each selection: right rows, and tasks. `picked`: name -> ids per seed."""
    tasks = sorted({str(row["task"]) for row in truth.values()})
    rows = []
    for name, seeds in {"the pool": [list(truth)], **picked}.items():
        right = mean(mean(truth[id]["right"] for id in ids) for ids in seeds)
        counts = [Counter(truth[id]["task"] for id in ids) for ids in seeds]
        shares = [mean(c[task] / c.total() for c in counts) for task in tasks]
        rows.append((name, f"{right:.3f}", *(f"{share:.0%}" for share in shares)))
    return table(("rows of", "right", *tasks), rows)


def stages(report: Mapping[str, Any]) -> Iterator[str]:
    """Seconds and FLOPs of each stage."""
    rows = [
        (
            stage["stage"],
            f"{stage['seconds']:.1f}",
            "-" if stage["flops"] is None else f"{stage['flops']:.2e}",
        )
        for stage in report["ledger"]["stages"]
    ]
    return table(("stage", "seconds", "FLOPs"), rows)


def selections(run: Path) -> dict[str, list[list[str]]]:
    """Kind of selection -> ids per seed: `selected`, `selected-1` and `selected-2` are one kind."""
    found: dict[str, list[list[str]]] = {}
    for file in sorted(run.glob("selections/*/selected.jsonl")):
        ids = [json.loads(line)["id"] for line in file.read_text(encoding="utf-8").splitlines()]
        found.setdefault(f"`{file.parent.name.partition('-')[0]}`", []).append(ids)
    return dict(sorted(found.items()))


def chapter(folder: Path) -> Iterator[str]:
    """Everything about one pool."""
    report = json.loads((folder / "run/report.json").read_text(encoding="utf-8"))
    lines = (folder / "world/truth.jsonl").read_text(encoding="utf-8").splitlines()
    truth = {row["id"]: row for row in map(json.loads, lines)}
    noise = Counter(row["noise"] or "none" for row in truth.values())
    yield f"Noise: {', '.join(f'{name} {n / len(truth):.0%}' for name, n in noise.most_common())}\n"
    yield report["verdict"]["sentence"] + "\n"
    yield from arms(report)
    yield from comparisons(report)
    yield from holdings(selections(folder / "run"), truth)
    yield from stages(report)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, help="the folder `pilotfish demo` wrote")
    chosen = parser.parse_args()
    for name in CHAPTERS:
        print(f"### The {name} pool\n")
        print("\n".join(chapter(chosen.demo / name)))


if __name__ == "__main__":
    main()
