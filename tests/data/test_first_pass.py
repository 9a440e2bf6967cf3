"""Ids compared by digests: the verdict of a set of all of them, whatever came in between."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.data import first_pass
from pilotfish.data.first_pass import DIGEST, UserIds, occurrences

VALUES = st.one_of(st.integers(0, 30), st.sampled_from(["", None, True, "a", "7", 1.5]))


@given(values=st.lists(VALUES, max_size=30), recent=st.integers(1, 8))
def test_the_first_row_that_breaks_the_names_is_found(values: list, recent: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first_pass, "RECENT", recent)
        ids = UserIds()
        given_ids = [ids.add(value) for value in values]
        if ids.usable:
            ids.settle()
    seen: set[str] = set()
    usable, repeated = True, None
    for name in given_ids:
        if name is None or name in seen:
            usable, repeated = False, name
            break
        seen.add(name)
    assert (ids.usable, ids.repeated) == (usable, repeated)
    assert ids.present == sum(name is not None for name in given_ids)


@given(st.lists(st.sampled_from([b"\0" * 16, b"a" * 16, b"a" * 15 + b"\0", b"\0a" * 8])))
def test_occurrences_count_the_rows_before(digests: list[bytes]) -> None:
    found = occurrences(np.array(digests, dtype=DIGEST))
    assert found.tolist() == [digests[:i].count(each) for i, each in enumerate(digests)]
