"""What an audited cut costs on made-up pools with a known answer."""

from collections.abc import Iterator

from benchmarks.tables.words import Found, table


def lines(found: Found) -> Iterator[str]:
    """One line for each pool, error, ranker and budget."""
    head = ("rows", "error", "what differs", "runs", "same set", "wrong rows unaudited",
            "wrong rows", "measured again", "net speed at 4 times", "with the audit")  # fmt: skip
    rows = [
        (
            f"{one['rows']:,}",
            f"{one['error']:.0e}",
            _differs(one),
            f"{one['runs']}",
            f"{one['same_set']:.0%}",
            f"{one['wrong_without_walk']:.1f}",
            f"{one['wrong']:.2f}",
            f"{one['share_remeasured']:.1%}",
            f"{one['net_speed_at_fast_ratio_4']:.2f}",
            f"{one['with_audit']:.2f}",
        )
        for one in found["cells"]
    ]
    return table(head, rows)


def _differs(one: Found) -> str:
    """The knobs of a cell that are not the usual ones."""
    # `picker` in results made before it was called a ranker
    names = {"kind": "kind", "shape": "shape", "picker": "ranker", "ranker": "ranker"}
    words = [f"{word} {one[name]}" for name, word in names.items() if name in one]
    words += [f"budget {one['budget']}"] if "budget" in one else []
    return ", ".join(words) or "-"
