"""Time and memory of selection at each size, and its speed beside other libraries."""

from collections.abc import Iterator

from benchmarks.tables.words import Found, ratio, table


def lines(found: Found) -> Iterator[str]:
    """One table by size, one by peer."""
    sizes = list(found["rows"])
    head = ("algorithm", *(f"{int(count):,} rows" for count in sizes), "MiB at most")
    yield f"Seconds, vectors of {found['width']} fp32 numbers read from a file (1.5 GB a million)."
    yield ""
    names = list(found["rows"][sizes[-1]])
    yield from table(head, (by_size(name, sizes, found["rows"]) for name in names))
    beside = dict(found["paired"])
    if not beside:
        return
    yield f"Beside others, {beside.pop('rows'):,} rows, in turns inside one process:"
    yield ""
    head = ("task", "other", "seconds", "ours", "times as fast", "answer", "ours")
    rows = [
        (task, other, f"{one['seconds']:.2f}", f"{one['ours_seconds']:.2f}", ratio(one["ratio"]),
         f"{one['answer']:,.6g}", f"{one['ours_answer']:,.6g}")
        for task, others in beside.items()
        for other, one in others.items()
    ]  # fmt: skip
    yield from table(head, rows)
    here = [f"{name} {version}" for name, version in found["libraries"].items() if version]
    yield f"The answer is the inertia, the value, the radius or the rows kept. {', '.join(here)}."
    yield ""


def by_size(name: str, sizes: list[str], rows: Found) -> tuple[str, ...]:
    """Seconds at every size and the highest peak; `-` where a case was not run."""
    runs = [rows[count].get(name) for count in sizes]
    seconds = [f"{run['seconds']:,.1f}" if run else "-" for run in runs]
    return (name, *seconds, f"{max(run['peak_mib'] for run in runs if run):,}")
