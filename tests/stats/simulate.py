"""Draws arms with known truth: Bernoulli items of differing difficulty, seeds with a spread."""


def arms(rng, *, seeds, items, spread, gap=0.0, interaction=0.0):
    """Two arms [s, n] of 0/1; the first is better by `gap` on average over items and seeds."""
    base = 0.1 + 0.8 * rng.beta(1.5, 1.5, items)  # room on both sides, so that no gap is clipped
    return [
        _arm(rng, base + rng.normal(0, interaction, items) + shift, seeds=count, spread=spread)
        for count, shift in zip(seeds, (gap / 2, -gap / 2), strict=True)
    ]


def _arm(rng, share, *, seeds, spread):
    levels = share + rng.normal(0, spread, (seeds, 1))
    return (rng.random((seeds, share.size)) < levels).astype(float)
