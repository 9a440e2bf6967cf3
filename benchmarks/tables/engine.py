"""Speed, then agreement and memory, of every contender with each model."""

from collections.abc import Iterator

from benchmarks.tables.words import NAMES, Found, agrees, peaks, speeds, table


def lines(found: Found) -> Iterator[str]:
    """Two tables for each model."""
    yield from peaks(found)
    for name, model in found["models"].items():
        yield f"**{name}**, {found['rows']} rows, {model['tokens']:,} tokens in two passes."
        yield ""
        yield from _speed(model)
        yield from _agreement(model)
        for each, reason in model["absent"].items():
            yield f"Not run: {NAMES[each]} ({reason})."
            yield ""


def _speed(model: Found) -> Iterator[str]:
    head = (
        "contender", "tokens/s", "rows/s", "times one row (range)", "of peak",
        "of peak as the peer counts", "padding", "start-up s",
    )  # fmt: skip
    rows = [
        (
            NAMES[each],
            *speeds(one),
            *map(_share, (one["share_of_peak_useful"], one["share_of_peak_plain"])),
            _padding(model, each),
            f"{one['start_up_seconds']:.1f}",
        )
        for each, one in model["contenders"].items()
    ]
    return table(head, rows)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _padding(model: Found, name: str) -> str:
    share = model["padding"].get("ours" if name.startswith("ours") else name)
    return "-" if share is None else f"{share:.1%}"


def _agreement(model: Found) -> Iterator[str]:
    head = ("contender", "largest difference, nats", "Spearman of IFD", "top 10% in common",
            "peak MiB")  # fmt: skip
    rows = [
        (
            NAMES[each],
            *agrees(one["agreement"]),
            f"{one['memory']['peak_mib']:,}",
        )
        for each, one in model["contenders"].items()
    ]
    return table(head, rows)
