"""What a geometric ranker answers: which rows, in which order, and what each was worth."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pilotfish.records import Floats, Ints, Texts


@dataclass(frozen=True, eq=False)
class DiverseRows:
    """Picked rows in pick order; every array named [n] is in the caller's order of rows."""

    order: Ints  # [k] indices of the picked rows, first picked first
    gain: Floats  # [k] what each pick added when it was made (unit: see the algorithm)
    nearest: Ints  # [n] the kept row nearest to a row; of a kept row: to it when picked; else -1
    closeness: Floats  # [n] distance or similarity to `nearest` (see the algorithm), nan where none
    reason: Texts  # [n] "" for a row that could be picked, else why it could not
    notes: Mapping[str, float] = field(default_factory=dict)  # what was done, for the record
