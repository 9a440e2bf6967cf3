"""Whether the tests keep their promises, by seeds, items and spread of the seeds."""

from collections.abc import Iterator, Mapping, Sequence

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
RIVALS = {
    "difference": "`difference`",
    "seed_means": "`seed_test`",
    "paired_seeds": "paired by seed",
    "one_pair": "McNemar of one pair",
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
    "plain_s_advised": "plainly told seeds",
    "plain_s_decide": "then decide",
    "items_advised": "told items",
    "items_decide": "then decide",
    "plain_i_advised": "plainly told items",
    "plain_i_decide": "then decide",
}


def lines(found: Found) -> Iterator[str]:
    """Tables with a line per setting in each."""
    counts = found["comparisons"]
    yield f"**False alarms and coverage**, {counts['compared']:,} comparisons a line and column:"
    yield ""
    yield from _shares(found, "compared", COMPARED)
    yield f"**Non-inferiority** with a margin of {found['margin']:g}, {counts['guarded']:,} each:"
    yield ""
    yield from _shares(found, "guarded", GUARDED)
    yield from _rivals(found)
    yield (
        f"**Best of {found['methods']} methods**, none better than random, {counts['chosen']:,} "
        "each; false alarms of:"
    )
    yield ""
    yield from _shares(found, "chosen", CHOSEN)
    yield from _advice(found)


def _rivals(found: Found) -> Iterator[str]:
    yield (
        f"**Other tests** in place of `difference`, {found['comparisons']['rivals']:,} each; seeds "
        "of two arms are independent, then moved alike (correlation "
        f"{found['tied'][-1]:g}). False alarms, and in brackets how often an effect of "
        f"{found['effect']:g} is found:"
    )
    yield ""
    pairs = [(tied, test) for tied in found["tied"] for test in RIVALS]
    head = (*SETTING, *(f"{RIVALS[test]}{', alike' if tied else ''}" for tied, test in pairs))
    yield from table(head, [_rival_row(one, pairs) for one in found["rivals"]])


def _rival_row(one: Found, pairs: Sequence[tuple[float, str]]) -> tuple[str, ...]:
    told = (
        f"{one[f'{test}_alarms_{tied:g}']:.1%} ({one[f'{test}_found_{tied:g}']:.0%})"
        for tied, test in pairs
    )
    return (*_row(one, ()), *told)


def _advice(found: Found) -> Iterator[str]:
    yield (
        f"**What would decide**, {found['comparisons']['advised']:,} each: how many stay "
        "undecided; how many of those are told a number (of at most "
        f"{found['most_seeds']:,} seeds or {found['most_items']:,} items); and how many of those "
        "decide once they have it. Plainly told: by an extrapolation that takes the estimate and "
        "its variances for the truth."
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
