"""How often intervals of PGR held the true one, by seeds, items and spread of the seeds."""

from collections.abc import Iterator

from benchmarks.tables.words import Found, table

FLOOR = 0.65  # the weak model's true share in every draw


def lines(found: Found) -> Iterator[str]:
    """One table; a line per setting."""
    yield (
        f"{found['experiments']:,} simulated experiments a line, the bootstrap in the first "
        f"{found['bootstrapped']} of them with {found['draws']} draws. Widths are medians."
    )
    yield ""
    head = ("seeds", "items", "seed spread: weak, student, ceiling", "gap", "defined",
            "Fieller holds it", "bootstrap holds it", "width", "bootstrap width")  # fmt: skip
    yield from table(head, [_row(one) for one in found["rows"]])


def _row(one: Found) -> tuple[str, ...]:
    drawn = one["setting"]
    spread = ", ".join(f"{value:g}" for value in drawn["spread"])
    numbers = (one[key] for key in ("fieller", "bootstrap", "width", "bootstrap_width"))
    return (
        f"{drawn['seeds']}",
        f"{drawn['items']:,}",
        f"{spread}; student tied to weak" if drawn["tied"] else spread,
        f"{drawn['top'] - FLOOR:.2f}",
        f"{one['defined']:.1%}",
        *("-" if number is None else f"{number:.3f}" for number in numbers),
    )
