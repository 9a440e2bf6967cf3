"""The benchmark's made-up pools, and pools scored by a cheap model and an intended one."""

import importlib.util
from pathlib import Path

import numpy as np

_FILE = Path(__file__).resolve().parents[3] / "benchmarks" / "audited_cut.py"
_SPEC = importlib.util.spec_from_file_location("audited_cut", _FILE)
assert _SPEC is not None and _SPEC.loader is not None
audited_cut = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(audited_cut)


def two_models(rng, n, *, correlation, lost=0.0, digits=None):
    """Cheap and intended scores [n] of one pool, on scales of their own, and the tie order."""
    true = rng.normal(size=n)
    other = correlation * true + np.sqrt(1 - correlation**2) * rng.normal(size=n)
    cheap, intended = np.exp(0.2 + 0.25 * other), np.exp(-0.3 + 0.3 * true)
    if digits is not None:
        cheap, intended = cheap.round(digits), intended.round(digits)
    for scores in (cheap, intended):
        scores[rng.random(n) < lost] = np.nan
    return cheap, intended, rng.permutation(n)
