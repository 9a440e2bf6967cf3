"""A prompt of one token is not an empty one, where states are pooled over the response."""

import numpy as np

from pilotfish.engine.batches import distinct
from pilotfish.records import Example, Need
from pilotfish.tokenization import encode_needs
from tests.tiny.models import byte_tokenizer
from tests.tiny.pools import asked


def test_rows_of_equal_ids_are_apart_where_their_responses_begin_elsewhere() -> None:
    need = Need("hidden", text="superfiltering")
    rows = [Example("none", "s", 0, text="\nabc"), asked("one", "", "abc")]
    none, one = encode_needs(rows, [need], byte_tokenizer(), 64)[need]
    assert none.ids.tolist() == one.ids.tolist() and none.read.marks == one.read.marks
    assert (np.count_nonzero(none.target), np.count_nonzero(one.target)) == (4, 3)
    assert len(distinct([none, one]).first) == 2
    assert len(distinct([one, one]).first) == 1
