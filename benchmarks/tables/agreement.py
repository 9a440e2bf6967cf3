"""Agreement of the fast precisions with fp32, and what an audited cut costs."""

from collections.abc import Iterator

from benchmarks.tables.words import Found, agrees, table


def lines(found: Found) -> Iterator[str]:
    """One table of numbers, one of picks."""
    each = [
        ((f"{name} ({model['of']})", precision), one)
        for name, model in found["models"].items()
        for precision, one in model["precisions"].items()
    ]
    measured = [(words, one) for words, one in each if "absent" not in one]
    head = ("model", "precision", "rows", "largest difference, nats", "Spearman of IFD",
            "top 10% in common")  # fmt: skip
    yield from table(head, [(*words, f"{one['rows']:,}", *agrees(one)) for words, one in measured])
    yield f"Superfiltering's {found['budget']}, fp32 measured again outward from the cut:"
    yield ""
    yield from _cuts(measured)
    for (model, precision), one in each:
        if "absent" in one:
            yield f"Not run: {precision} with {model} ({one['absent']})."
            yield ""


def _cuts(measured: list[tuple[tuple[str, str], Found]]) -> Iterator[str]:
    head = ("model", "precision", "picked", "wrongly, unaudited", "wrongly, audited",
            "measured again", "audit sample", "of the work", "net, times one row")  # fmt: skip
    rows = [
        (
            *words,
            f"{one['picked']:,}",
            f"{one['swapped_unaudited']}",
            f"{one['swapped_audited']}",
            f"{one['remeasured']:.1%}",
            f"{one['audited']:.1%}",
            f"{one['work_again']:.1%}" if "work_again" in one else "-",
            "-" if one["net_ratio"] is None else f"{one['net_ratio']:.2f}",
        )
        for words, one in measured
    ]
    return table(head, rows)
