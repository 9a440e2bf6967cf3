"""Every cache that a format number names, with its golden file."""

from pilotfish.engine.keys import SIGNAL_FORMAT
from pilotfish.flows.label_parts import LABEL_FORMAT
from pilotfish.pool.reading import POOL_FORMAT
from tests.goldens import labels, pools, signals
from tests.goldens.compare import Golden

GOLDENS = {
    each.name: each
    for each in (
        Golden("signals", "SIGNAL_FORMAT", SIGNAL_FORMAT, signals.cases),
        Golden("pools", "POOL_FORMAT", POOL_FORMAT, pools.cases),
        Golden("labels", "LABEL_FORMAT", LABEL_FORMAT, labels.cases),
    )
}
