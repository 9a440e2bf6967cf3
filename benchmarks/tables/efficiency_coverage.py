"""How often intervals of the efficiency factor held the true one, by seeds and their spread."""

from collections.abc import Iterator

from benchmarks.tables.words import Found, table


def lines(found: Found) -> Iterator[str]:
    """One table; a line per setting."""
    budgets = ", ".join(f"{rows:,}" for rows in found["budgets"])
    yield (
        f"{found['sweeps']:,} simulated sweeps a line over {budgets} rows; the true factor is "
        f"{found['factor']:g}. The bootstrap has {found['draws']} draws. An open end holds "
        "whatever lies there."
    )
    yield ""
    head = ("seeds", "items", "seed spread", "inversion holds it", "bootstrap holds it",
            "both ends of the inversion closed", "value censored")  # fmt: skip
    yield from table(head, [_row(one) for one in found["rows"]])


def _row(one: Found) -> tuple[str, ...]:
    shares = (one[key] for key in ("inversion", "bootstrap", "closed", "censored"))
    setting = (f"{one['seeds']}", f"{one['items']:,}", f"{one['spread']:g}")
    return (*setting, *(f"{share:.1%}" for share in shares))
