"""Peak memory of each command over few and over ten times as many rows."""

from collections.abc import Iterator

from benchmarks.tables.words import Found, table


def lines(found: Found) -> Iterator[str]:
    """One table, and whether the promise is kept."""
    (few, small), (many, large) = found["rows"].items()
    head = ("command", f"MiB, {int(few):,} rows", f"MiB, {int(many):,} rows", "ratio",
            f"seconds, {int(many):,} rows")  # fmt: skip
    rows = [
        (
            name,
            f"{small[name]['peak_mib']:,.0f}",
            f"{large[name]['peak_mib']:,.0f}",
            f"{times:.2f}",
            f"{large[name]['seconds']:,.0f}",
        )
        for name, times in found["ratio"].items()
    ]
    yield from table(head, rows)
    yield f"Promised: at most {found['promise']}; {'kept' if found['kept'] else 'not kept'}."
    yield ""
