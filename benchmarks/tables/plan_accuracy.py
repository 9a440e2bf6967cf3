"""What was planned against what was then measured."""

from collections.abc import Iterator

from benchmarks.tables.words import Found, table

NAMES = {"tiny_world": "the demo's dirty world", "gpt2-124m": "124M GPT-2 shapes, dolly rows"}


def lines(found: Found) -> Iterator[str]:
    """One table, and whether the promise is kept."""
    for name, run in found["runs"].items():
        before, after = run["load_average"]
        yield (
            f"{NAMES[name][0].upper()}{NAMES[name][1:]}, planned in {run['planning_seconds']:.0f} s"
            f" by a {run['machine']['probe']['how']}; load average {before:.1f} before, "
            f"{after:.1f} after."
        )
        yield ""
        stages = [*run["stages"].items(), ("total, loading and all", run["total"])]
        head = ("stage", "planned, s", "measured, s", "ratio")
        yield from table(head, [
            (stage, f"{one['predicted']:,.1f}", f"{one['measured']:,.1f}", f"{one['ratio']:.2f}")
            for stage, one in stages
        ])  # fmt: skip
    kept = all(run["kept"] for run in found["runs"].values())
    yield (
        f"Promised: scoring and training within {found['promise']:.0%}; "
        f"{'kept' if kept else 'not kept'}."
    )
    yield ""
