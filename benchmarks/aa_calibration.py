"""Do the tests keep their promises? Simulated comparisons with a known truth.

    python -m benchmarks.aa_calibration            # up to 2,000 comparisons a line, some minutes

Shares of 0/1 items around .7; items differ in difficulty, each arm has its own view of each item,
and seeds have a spread of their own. Asked: false alarms and coverage of `stats.difference`, the
errors of `stats.noninferior` at its margin, what other tests would do in place of `difference`,
what choosing the best of five methods does to false alarms, and whether the seeds or items that
`stats.needed` advises do decide, beside what a plain extrapolation would have said.
Writes JSON, of which `python -m benchmarks.tables` makes tables.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks.growing import Trial
from benchmarks.machine import parser, write
from benchmarks.triples import drawn
from pilotfish.stats import (
    Estimate,
    difference,
    halves,
    mcnemar,
    needed,
    noninferior,
    seed_test,
    t_two_sided,
)

Floats = NDArray[np.float64]

COMPARISONS, QUICK = 2_000, 40
LEVEL, EFFECT, MARGIN, METHODS = 0.70, 0.03, 0.02, 5
CLEARER = 0.06  # a second true effect where advice is followed
TIED = (0.0, 0.6)  # how far the seeds of both arms are moved alike
MOST_SEEDS, MOST_ITEMS = 200, 30_000  # advice beyond these is counted, not followed


@dataclass(frozen=True)
class Setting:
    """spread: standard deviation of a seed's true mean."""

    seeds: int
    items: int
    spread: float


def settings() -> Iterator[Setting]:
    for seeds in (3, 5):
        for items in (300, 1000):
            for spread in (0.005, 0.01, 0.02, 0.05):
                yield Setting(seeds, items, spread)


def arms(rng: np.random.Generator, setting: Setting, means: Sequence[float]) -> list[Floats]:
    """Arms [seeds, items] with these true means."""
    return drawn(rng, means, **asdict(setting))


def excludes(found: Estimate, truth: float = 0.0) -> bool:
    """Whether the interval rules `truth` out."""
    return found.low is not None and found.high is not None and not found.low <= truth <= found.high


def compared(setting: Setting, count: int, seed: int) -> dict[str, float]:
    """False alarms between equal arms; coverage and power with a true effect."""
    rng = np.random.default_rng(seed)
    same = [difference(*arms(rng, setting, (LEVEL, LEVEL))) for _ in range(count)]
    apart = [difference(*arms(rng, setting, (LEVEL + EFFECT, LEVEL))) for _ in range(count)]
    return {
        "false_alarms": share(excludes(one) for one in same),
        "covered": 1.0 - share(excludes(one, EFFECT) for one in apart),
        "found": share(excludes(one) for one in apart),
        "width": median((one.high or 0.0) - (one.low or 0.0) for one in apart),
    }


def guarded(setting: Setting, count: int, seed: int) -> dict[str, float]:
    """Wrong PASS and wrong FAIL at a true difference of exactly -margin, and PASS at equality."""
    rng = np.random.default_rng(seed)
    edge = [_outcome(rng, setting, -MARGIN) for _ in range(count)]
    equal = [_outcome(rng, setting, 0.0) for _ in range(count)]
    return {
        "wrong_pass": share(one == "pass" for one in edge),
        "wrong_fail": share(one == "fail" for one in edge),
        "pass_when_equal": share(one == "pass" for one in equal),
        "fail_when_equal": share(one == "fail" for one in equal),
    }


def _outcome(rng: np.random.Generator, setting: Setting, truth: float) -> str:
    new, ref = arms(rng, setting, (LEVEL + truth, LEVEL))
    return noninferior(new, ref, margin=MARGIN).outcome


def rivals(setting: Setting, count: int, seed: int) -> dict[str, float]:
    """What each test would do: alarms between equal arms, and a true effect found."""
    rng = np.random.default_rng(seed)
    told: dict[str, float] = {}
    for tied in TIED:
        for name, gap in (("alarms", 0.0), ("found", EFFECT)):
            means = (LEVEL + gap, LEVEL)
            pairs = (drawn(rng, means, **asdict(setting), tied=tied) for _ in range(count))
            each = [_rejected(*pair) for pair in pairs]
            for test in each[0]:
                told[f"{test}_{name}_{tied:g}"] = share(one[test] for one in each)
    return told


def _rejected(a: Floats, b: Floats) -> dict[str, bool]:
    """Which tests reject equality, at .05 each."""
    p = seed_test(a, b).p
    gaps = (a - b).mean(axis=1)  # [s], seeds paired by their number
    sd = float(gaps.std(ddof=1)) / len(gaps) ** 0.5
    by_pair = t_two_sided(float(gaps.mean()) / sd, len(gaps) - 1) if sd else 1.0
    apart = (int((a[0] > b[0]).sum()), int((a[0] < b[0]).sum()))
    return {
        "difference": excludes(difference(a, b)),
        "seed_means": p is not None and p < 0.05,
        "paired_seeds": by_pair < 0.05,
        "one_pair": mcnemar(*apart) < 0.05,
    }


def chosen(setting: Setting, count: int, seed: int) -> dict[str, float]:
    """False alarms where five methods, none better than random, are tried and the best is told."""
    rng = np.random.default_rng(seed)
    side = halves([f"item-{at}" for at in range(setting.items)])
    told = [_told(arms(rng, setting, (LEVEL,) * (METHODS + 1)), side) for _ in range(count)]
    return {key: share(one[key] for one in told) for key in told[0]}


def _told(drawn_arms: list[Floats], side: NDArray[np.bool_]) -> dict[str, bool]:
    """Whether each way of telling the best of the methods (all but the last arm) alarms."""
    *methods, random = drawn_arms
    few = len(random) // 2  # seeds that only choose, where seeds are split too
    whole, half = best(methods), best([one[:, side] for one in methods])
    apart = best([one[:few, side] for one in methods])
    return {
        "naive": excludes(difference(methods[whole], random)),
        "split_items": excludes(difference(methods[half][:, ~side], random[:, ~side])),
        "split_items_and_seeds": excludes(
            difference(methods[apart][few:, ~side], random[few:, ~side])
        ),
        "holm": any(by_holm(methods, random)),
    }


def by_holm(methods: Sequence[Floats], random: Floats) -> Iterator[bool]:
    """Whether Holm's first step rejects, method by method: it decides whether any is rejected.

    The interval at alpha / m, which excludes 0 where p is below that; it is faster than p itself.
    """
    for one in methods:
        yield excludes(difference(one, random, alpha=0.05 / len(methods)))


def best(methods: Sequence[Floats]) -> int:
    """The arm with the highest mean."""
    return int(np.argmax([one.mean() for one in methods]))


def advised(setting: Setting, count: int, seed: int) -> dict[str, float | None]:
    """Of undecided comparisons with a true effect: what adding the advised number does."""
    return {
        f"{key}_{round(100 * effect)}": value
        for effect in (EFFECT, CLEARER)
        for key, value in _followed(setting, effect, count, seed).items()
    }


def _followed(setting: Setting, effect: float, count: int, seed: int) -> dict[str, float | None]:
    """Seeds or items are added to what was judged, as users do; each on a trial of its own."""
    rng, undecided = np.random.default_rng(seed), 0
    ends: dict[str, list[bool]] = {key: [] for key in ("seeds", "items", "plain_s", "plain_i")}
    for _ in range(count):
        trial = Trial(rng, (LEVEL + effect, LEVEL), setting.spread)
        found = difference(*trial.judged(setting.seeds, setting.items))
        if excludes(found):
            continue
        undecided += 1
        advice = needed(found)
        asked = {"seeds": (advice.seeds, setting.items), "items": (setting.seeds, advice.items)}
        asked |= {"plain_s": (plain_seeds(found), setting.items)}
        asked |= {"plain_i": (setting.seeds, plain_items(found))}
        for key, (s, n) in asked.items():
            if s is not None and n is not None and s <= MOST_SEEDS and n <= MOST_ITEMS:
                ends[key].append(excludes(difference(*trial.copy().judged(s, n))))
    told: dict[str, float | None] = {"undecided": undecided / count}
    for key, hits in ends.items():
        told |= {f"{key}_advised": _of(len(hits), undecided)}
        told |= {f"{key}_decide": _of(sum(hits), len(hits))}
    return told


def plain_seeds(found: Estimate) -> int | None:
    """The fewest seeds that would decide if estimate and variances were the truth."""
    assert found.parts is not None and found.value is not None
    for s in range(min(found.seeds), MOST_SEEDS + 1):
        if replace(found.parts, reps=2 / s, df_seed=2 * s - 2).half_width(0.05) < abs(found.value):
            return s
    return None


def plain_items(found: Estimate) -> int | None:
    """The fewest items, in steps of a twentieth, likewise."""
    assert found.parts is not None and found.value is not None
    now, n = found.parts, found.items
    pure = max(0.0, now.seed - now.noise / now.n)
    while n <= MOST_ITEMS:
        if replace(now, seed=pure + now.noise / n, n=n).half_width(0.05) < abs(found.value):
            return n
        n += -(-n // 20)
    return None


def _of(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def share(hits: Iterable[bool]) -> float:
    """The share of True."""
    return float(np.mean([float(hit) for hit in hits]))


Part = Callable[[Setting, int, int], Mapping[str, float | None]]
PARTS: dict[str, Part] = {
    "compared": compared,
    "guarded": guarded,
    "rivals": rivals,
    "chosen": chosen,
    "advised": advised,
}
FEWER = {
    "guarded": 4,
    "rivals": 4,
    "chosen": 2,
    "advised": 5,
}  # slow ones get so many times fewer comparisons


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    count = QUICK if options.quick else COMPARISONS
    counts = {name: count // FEWER.get(name, 1) for name in PARTS}
    told = {
        name: [{**asdict(one), **part(one, counts[name], options.seed)} for one in settings()]
        for name, part in PARTS.items()
    }
    facts = {
        "level": LEVEL, "effect": EFFECT, "clearer": CLEARER, "margin": MARGIN, "methods": METHODS,
        "tied": list(TIED), "most_seeds": MOST_SEEDS, "most_items": MOST_ITEMS,
    }  # fmt: skip
    write("aa_calibration", options, {"comparisons": counts, **facts, **told})


if __name__ == "__main__":
    main()
