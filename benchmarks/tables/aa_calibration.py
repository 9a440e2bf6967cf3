"""Whether the tests keep their promises, by seeds, items and spread of the seeds."""

from collections.abc import Iterator, Mapping

from benchmarks.tables.words import Found, table

SETTING = ("seeds", "items", "seed spread")
COMPARED = {
    "false_alarms": "false alarms, no effect",
    "covered": "95% interval holds an effect of {effect:g}",
    "found": "effect found",
}
GUARDED = {
    "wrong_pass": "PASS though worse by just the margin",
    "wrong_fail": "FAIL though worse by just the margin",
    "pass_when_equal": "PASS when equal",
    "fail_when_equal": "FAIL when equal",
}
CHOSEN = {
    "naive": "the best, uncorrected",
    "split_items": "chosen on half the items",
    "split_items_and_seeds": "chosen on half the items and other seeds",
    "holm": "Holm, any of them",
}
ADVISED = {
    "undecided": "undecided",
    "seeds_advised": "told seeds",
    "seeds_decide": "then decide",
    "items_advised": "told items",
    "items_decide": "then decide",
}


def lines(found: Found) -> Iterator[str]:
    """Four tables; a line per setting in each."""
    counts = found["comparisons"]
    yield f"**False alarms and coverage**, {counts['compared']:,} comparisons a line and column:"
    yield ""
    yield from _shares(found, "compared", COMPARED)
    yield f"**Non-inferiority** with a margin of {found['margin']:g}, {counts['guarded']:,} each:"
    yield ""
    yield from _shares(found, "guarded", GUARDED)
    yield (
        f"**Best of {found['methods']} methods**, none better than random, {counts['chosen']:,} "
        "each; false alarms of:"
    )
    yield ""
    yield from _shares(found, "chosen", CHOSEN)
    yield from _advice(found)


def _advice(found: Found) -> Iterator[str]:
    yield (
        f"**What would decide**, {found['comparisons']['advised']:,} each: how many stay "
        "undecided; how many of those are told a number (of at most "
        f"{found['most_seeds']:,} seeds or {found['most_items']:,} items); and how many of those "
        "decide once they have it."
    )
    yield ""
    for effect in (found["effect"], found["clearer"]):
        yield from (f"A true effect of {effect:g}:", "")
        words = {f"{key}_{round(100 * effect)}": word for key, word in ADVISED.items()}
        yield from _shares(found, "advised", words)


def _shares(found: Found, part: str, words: Mapping[str, str]) -> Iterator[str]:
    """One table with a column for each key of `words`."""
    head = (*SETTING, *(word.format(**found) for word in words.values()))
    yield from table(head, [_row(one, tuple(words)) for one in found[part]])


def _row(one: Found, keys: tuple[str, ...]) -> tuple[str, ...]:
    numbers = (one[key] for key in keys)
    return (
        f"{one['seeds']}",
        f"{one['items']:,}",
        f"{one['spread']:g}",
        *("-" if number is None else f"{number:.1%}" for number in numbers),
    )
