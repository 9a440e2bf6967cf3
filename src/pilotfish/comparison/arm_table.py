"""Arms as matrices of the same items, and the table of arms for report.json."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pilotfish import stats
from pilotfish.comparison.arm_names import parse_arm_name
from pilotfish.errors import DataError
from pilotfish.evaluation.results import Results
from pilotfish.records import Floats

# Models nobody trained here: one judging says all there is to know, no seed is missing.
UNTRAINED = ("base", "weak")
ORDER = (
    "base",
    "weak",
    "random",
    "random_tokens",
    "random_compute",
    "length_matched",
    "longest",
    "full",
    "selected",
    "trusted",
    "trusted_random",
    "trusted_full",
    "trusted_selected",
    "relabel_all",
    "trusted_relabel_all",
)


def in_order(names: Iterable[str]) -> list[str]:
    """Arm names as reports list them: the known ones in their order, then others by name.

    Of one arm the verdict's budget first, then the others by unit and size, then equal epochs.
    """

    def key(name: str) -> tuple[int, str, str, tuple[str, float], str]:
        place = parse_arm_name(name)
        known = ORDER.index(place.arm) if place.arm in ORDER else len(ORDER)
        return known, place.arm, place.equal, _size(place.budget), name

    return sorted(names, key=key)


def _size(slug: str) -> tuple[str, float]:
    """(unit, amount) of `5pct` or `2000rows`; a name that is no budget counts as a unit."""
    unit = slug.lstrip("0123456789.")
    amount = slug.removesuffix(unit)
    return unit, float(amount) if amount.strip(".") else 0.0


def is_fixed(results: Results, arm: str) -> bool:
    """Whether an arm is deterministic: an untrained model, judged once.

    A weak model tuned anew for every seed is judged once per seed and counts as trained. Of
    several runs beside each other (`<run>/base`) the last word is the arm.
    """
    return arm.rpartition("/")[2] in UNTRAINED and len(results[arm]) == 1


def matrices(results: Results, arms: Iterable[str]) -> list[Floats]:
    """[s, n] values per arm, all with the same items in the same order; nan where unscorable.

    Joined by item id, never by position. Raises DataError when an arm lacks an item another has:
    leaving it out quietly could hide exactly the rows a model failed on.
    """
    names = list(arms)
    rows = {(arm, seed): values for arm in names for seed, values in sorted(results[arm].items())}
    everything = sorted(set().union(*rows.values()))
    for (arm, seed), values in rows.items():
        missing = [key for key in everything if key not in values]
        if missing:
            raise DataError(
                f"{arm} seed {seed} was not judged on {len(missing)} of {len(everything)} items "
                f"that other arms were judged on, '{missing[0]}' among them",
                hint="judge every arm on the same test rows",
            )
    return [
        np.array([[rows[arm, seed][key] for key in everything] for seed in sorted(results[arm])])
        for arm in names
    ]


def arm_table(
    results: Results,
    train_manifests: Mapping[tuple[str, int], Mapping[str, Any]],
    *,
    metric: str,
    higher_is_better: bool,
    alpha: float = 0.05,
) -> list[dict[str, Any]]:
    """The `arms` of report.json: one entry per arm, trained or judged or both.

    {name, rows, tokens, steps, seeds, metric, higher_is_better, mean, low, high, items,
    unscorable}. rows, tokens, steps: means over the seeds' manifests, whole numbers; None for an
    arm without one (0 for `base`, and for `weak` where it was not tuned). mean: over seeds and
    items every seed could score; None where nothing was judged. low, high: None for a trained arm
    with one seed.
    """
    names = in_order({*results, *(arm for arm, _ in train_manifests)})
    return [
        {
            "name": name,
            **_learned(name, train_manifests),
            "seeds": sorted({*results.get(name, {}), *_seeds(name, train_manifests)}),
            "metric": metric,
            "higher_is_better": higher_is_better,
            **_measured(results, name, alpha),
        }
        for name in names
    ]


def _seeds(name: str, manifests: Mapping[tuple[str, int], Mapping[str, Any]]) -> list[int]:
    return [seed for arm, seed in manifests if arm == name]


def _learned(
    name: str, manifests: Mapping[tuple[str, int], Mapping[str, Any]]
) -> dict[str, int | None]:
    own = [facts for (arm, _), facts in manifests.items() if arm == name]
    return {key: _typical(name, key, own) for key in ("rows", "tokens", "steps")}


def _typical(name: str, key: str, manifests: list[Mapping[str, Any]]) -> int | None:
    said = [float(facts[key]) for facts in manifests if facts.get(key) is not None]
    if said:
        return round(sum(said) / len(said))
    return 0 if name in UNTRAINED else None


def _measured(results: Results, name: str, alpha: float) -> dict[str, Any]:
    if not results.get(name):
        return {"mean": None, "low": None, "high": None, "items": 0, "unscorable": 0}
    (values,) = matrices(results, [name])
    found = stats.mean(values, alpha=alpha, fixed=is_fixed(results, name))
    return {
        "mean": found.value,
        "low": found.low,
        "high": found.high,
        "items": found.items,
        "unscorable": found.excluded,
    }
