"""How often every method would keep planted rows, on two pools."""

from collections.abc import Iterator

from benchmarks.tables.words import Found, table

POOLS = {
    "demo": "The demo's dirty pool, {rows:,} rows, its weak model tuned on the trusted rows",
    "dolly": "{rows:,} rows of dolly, read by the TinyStories model of 260 thousand parameters",
}


def lines(found: Found) -> Iterator[str]:
    """A table of lifts and one of drift for each pool."""
    for name, one in found["pools"].items():
        if "absent" in one:
            yield from (f"Not run: {name} ({one['absent']}).", "")
            continue
        told = POOLS[name].format(rows=one["pool"])
        rows = max(each["of"] for each in _first(one)["attacks"])
        yield (
            f"{told}; budget {found['budget']}, {rows} rows of each attack, "
            f"{one['seconds']:.0f} s for all methods."
        )
        yield ""
        yield from _lifts(one)
        yield from _drifts(one)


def _lifts(one: Found) -> Iterator[str]:
    attacks = [each["attack"] for each in _first(one)["attacks"]]
    head = ("method", "kept", *(attack.replace("_", " ") for attack in attacks))
    yield from table(
        head,
        (
            (method, f"{told['share']:.1%}", *(_lift(each) for each in told["attacks"]))
            for method, told in one["methods"].items()
        ),
    )


def _drifts(one: Found) -> Iterator[str]:
    head = ("method", "bait moves up by", "ordinary text as long by", "the bait beyond that")
    yield from table(
        head,
        (
            (method, *(_moved(told["injection"][kind]) for kind in ("bait", "benign", "excess")))
            for method, told in one["methods"].items()
        ),
    )


def _first(one: Found) -> Found:
    first: Found = next(iter(one["methods"].values()))
    return first


def _lift(each: Found) -> str:
    if each["lift"] is None:
        return "-"
    return f"{each['lift']:.1f} ({each['low']:.1f} to {each['high']:.1f})"


def _moved(each: Found) -> str:
    return f"{each['mean']:+.1%} ({each['low']:+.1%} to {each['high']:+.1%})"
