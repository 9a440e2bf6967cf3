"""Labels that the shipped tiny weak model gives to a few rows, by each kind of labelling."""

from typing import Any

import numpy as np

from pilotfish.config import LabelConfig
from pilotfish.demo.models import shipped
from pilotfish.labeling.predict import predict_labels
from pilotfish.models import load
from pilotfish.records import Example
from tests.tiny.pools import asked

_WORDS = ("abc", "river", "ab", "lemon", "stone", "zz", "tiger")
_PROMPTS = [asked(f"r{i}", f"reverse: {word}", word[::-1]) for i, word in enumerate(_WORDS)]
_TEXTS = [Example(f"t{i}", "s", i, text=word, label="") for i, word in enumerate(_WORDS)]
_WAYS: dict[str, tuple[list[Example], LabelConfig]] = {
    "hard": (_PROMPTS, LabelConfig(classes=[], max_new_tokens=8)),
    "cut": (_PROMPTS, LabelConfig(classes=[], max_new_tokens=2)),
    "states": (_PROMPTS, LabelConfig(classes=[], max_new_tokens=8, filter="knn")),
    "consistency": (
        _PROMPTS,
        LabelConfig(kind="consistency", classes=[], samples=4, max_new_tokens=8),
    ),
    "classes": (_TEXTS, LabelConfig(classes=["a", "b", "yes"])),
    "soft": (_TEXTS, LabelConfig(kind="soft", classes=["a", "b", "yes"])),
}


def cases() -> dict[str, Any]:
    """Return the labels given now: case name -> JSON-ready facts."""
    weak = load(str(shipped("weak")), device="cpu")
    found: dict[str, Any] = {}
    for name, (rows, how) in _WAYS.items():
        predictions = predict_labels(rows, weak, how)
        labels = predictions.labels
        found[name] = {
            "label": labels.label.tolist(),
            "status": labels.status.tolist(),
            "reason": labels.reason.tolist(),
            "confidence ~": _numbers(labels.confidence),
            "probs ~": None if labels.probs is None else _numbers(labels.probs),
            "states ~": None
            if predictions.states is None
            else _numbers(predictions.states[:, ::16]),
        }
    return found


def _numbers(values: Any) -> list[float | None]:
    return [float(f"{x:.8g}") if np.isfinite(x) else None for x in values.ravel()]
