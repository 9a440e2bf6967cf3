"""The two-sample t test on seed means alone; the verdict's interval adds the items to it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.stats.distributions import t_critical, t_two_sided
from pilotfish.stats.interval import difference

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SeedTest:
    """Result of a two-sample t test of seed means with pooled variance.

    Attributes:
        difference: a - b on these items; None when no item was usable.
        p: Two-sided p value. It and the interval are None where the spread over seeds is unknown:
            a trained arm has one seed, or the seeds of each arm have equal means.
        low: Lower end of the interval.
        high: Upper end of the interval.
        df: Degrees of freedom, the sum of S - 1 over the trained arms.
    """

    difference: float | None
    p: float | None
    low: float | None
    high: float | None
    df: int


def seed_test(
    a: Floats, b: Floats, *, alpha: float = 0.05, fixed: tuple[bool, bool] = (False, False)
) -> SeedTest:
    """Test whether two arms differ, from their seed means on these items alone.

        se = sqrt(seed * (1/S_a + 1/S_b)),   p = P(|t(df)| >= |difference| / se)

    `stats.difference` is this test with the items' part added in quadrature, at the same degrees of
    freedom. Its interval contains this one, so this test decides whatever it decides, but not the
    other way round. The verdict uses `difference`, because it has to hold on new items too. Seeds
    are not paired, although the arms share the order of the data: at three seeds pairing leaves 2
    degrees of freedom instead of 4, and the unpaired test is conservative where sharing makes the
    arms alike.

    Args:
        a: First arm [s, n].
        b: Second arm [s', n], on the same items.
        alpha: The interval has confidence 1 - alpha.
        fixed: Whether `a` and `b` are arms that no seed changes.
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
