"""The test on seeds alone: what the verdict's interval starts from, and never claims beyond."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.stats.distributions import t_critical, t_two_sided
from pilotfish.stats.interval import difference

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SeedTest:
    """Two-sample t test of seed means, pooled variance; difference = a - b on these very items.

    difference: None when no item was usable. p, low, high: None where a trained arm has one seed
    or no seed's mean differs from another's of its arm, since then nothing is known of their
    spread. df: degrees of freedom, the sum of S - 1 over the trained arms.
    """

    difference: float | None
    p: float | None
    low: float | None
    high: float | None
    df: int


def seed_test(
    a: Floats, b: Floats, *, alpha: float = 0.05, fixed: tuple[bool, bool] = (False, False)
) -> SeedTest:
    """Are two arms [s, n] apart, judged by their seed means alone on these n items?

        se = sqrt(seed * (1/S_a + 1/S_b)),   p = P(|t(df)| >= |difference| / se)

    `stats.difference` is this test with the items' part added in quadrature, at the same degrees of
    freedom: its interval holds this one, so whatever it decides this test decides too, but not the
    other way round. The verdict rests on `difference`, as a reader means new items as well. Seeds
    are not paired, though arms share the order of the data: at three seeds pairing leaves 2 degrees
    of freedom for 4, and unpaired is on the safe side when what they share makes them alike.
    """
    found = difference(a, b, alpha=alpha, fixed=fixed)
    trained = [len(arm) for arm, still in zip((a, b), fixed, strict=True) if not still]
    df = sum(trained) - len(trained)
    parts = found.parts
    if found.value is None or parts is None or parts.by_seed == 0.0:
        return SeedTest(found.value, None, None, None, df)
    se = parts.by_seed**0.5
    half = t_critical(alpha, df) * se
    p = t_two_sided(found.value / se, df)
    return SeedTest(found.value, p, found.value - half, found.value + half, df)
