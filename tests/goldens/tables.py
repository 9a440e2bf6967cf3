"""Every cache that a format number names, with its golden file."""

from pilotfish.data.ingest import POOL_FORMAT
from pilotfish.engine.cache_keys import SIGNAL_FORMAT
from pilotfish.labeling.shards import LABEL_FORMAT
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
