"""Time with more rows, then with longer ones."""

from collections.abc import Iterator

from benchmarks.tables.words import Found, ratio, table


def lines(found: Found) -> Iterator[str]:
    """Two tables."""
    yield f"Rows of {found['row_tokens']} tokens, {found['rows_model']}, read and scored."
    yield ""
    yield from _rows(found)
    yield f"Equally many tokens in rows of equal length, {found['lengths_model']}, fp32."
    yield ""
    yield from _lengths(found)


def _rows(found: Found) -> Iterator[str]:
    rows = [
        (
            f"{one['rows']:,}",
            f"{one['seconds']:.1f}",
            f"{one['rows_per_second']:,.0f}",
            f"{one['read_seconds']:.1f}",
            f"{one['not_model']:.0%}",
        )
        for one in found["rows"]
    ]
    return table(("rows", "seconds", "rows/s", "of them reading, s", "not the model"), rows)


def _lengths(found: Found) -> Iterator[str]:
    rows = [
        (
            f"{one['length']:,}",
            f"{one['rows']}",
            f"{one['one_row_tokens_per_second']:,}",
            f"{one['ours_fp32_tokens_per_second']:,}",
            ratio(one["ratio"]),
        )
        for one in found["lengths"]
    ]
    head = ("tokens in a row", "rows", "one row at a time, tokens/s", "pilotfish, tokens/s",
            "ratio (range)")  # fmt: skip
    return table(head, rows)
