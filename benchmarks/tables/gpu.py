"""The race on a GPU, then the two big jobs."""

from collections.abc import Iterator

from benchmarks.tables.words import NAMES, Found, agrees, peaks, speeds, table

JOBS = {"alpaca": "rows of Alpaca's lengths", "million": "rows of 400 tokens"}


def lines(found: Found) -> Iterator[str]:
    """Two tables."""
    raced = found["raced"]
    yield from peaks(found)
    yield f"**{raced['model']}**, {raced['rows']:,} rows; the peers in bf16."
    yield ""
    head = ("contender", "tokens/s", "rows/s", "times one row (range)", "largest difference, nats",
            "Spearman of IFD")  # fmt: skip
    contenders = raced["contenders"].items()
    rows = [(NAMES[each], *speeds(one), *agrees(one["agreement"])[:2]) for each, one in contenders]
    yield from table(head, rows)
    yield from table(
        ("job", "model", "seconds", "tokens/s", "of bf16 peak", "not the model"),
        [_job(name, found[name]) for name in JOBS],
    )
    minutes = found["million"]["million_rows_minutes"]
    yield f"A million of the latter rows would take {minutes:.0f} minutes (extrapolated)."
    yield ""


def _job(name: str, job: Found) -> tuple[str, ...]:
    return (
        f"{job['rows']:,} {JOBS[name]}",
        job["model"],
        f"{job['seconds']:.1f}",
        f"{job['tokens_per_second']:,}",
        f"{job['share_of_peak_useful']:.0%}",
        f"{job['not_model']:.1%}",
    )
