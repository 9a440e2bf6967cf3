"""How many seeds or items would decide, where there is nothing to extrapolate from."""

import numpy as np

from pilotfish.stats import difference, inside, needed


def test_arms_without_any_spread_ask_for_items_and_never_for_what_they_have() -> None:
    """All outputs wrong in both arms: 14 items were not enough, and 14 are no advice."""
    flat = np.zeros((3, 14))
    found = needed(difference(flat, flat), margin=0.02)
    assert found.seeds is None and found.items is not None
    more, fewer = (np.zeros((3, n)) for n in (found.items, found.items - 1))
    assert inside(difference(more, more), 0.02) and not inside(difference(fewer, fewer), 0.02)
