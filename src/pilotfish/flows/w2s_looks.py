"""What an arm of a weak-to-strong experiment says to some of the test rows while it learns."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotfish.errors import DamagedRun
from pilotfish.flows.train import train_folder
from pilotfish.flows.w2s_arms import W2sArm
from pilotfish.flows.w2s_lab import Lab
from pilotfish.records import Example

if TYPE_CHECKING:
    from pilotfish.models import Loaded
    from pilotfish.train import Looks

LOOKS = "looks.json"  # in the folder of a model: step -> its answers then
LOOKED_AT = 200  # test rows, at most: a curve is no result


class Seen:
    """The answers of one arm and seed by step; they outlive a kill, as its checkpoints do.

    A look is written before the checkpoint of its step, and what was looked at behind the last
    checkpoint is looked at again and overwritten.
    """

    def __init__(self, lab: Lab, arm: W2sArm, seed: int, made_from: Mapping[str, Any]) -> None:
        self._lab, self._arm = lab, arm
        self._rel = f"{train_folder(arm.name, seed)}/looks-so-far.json"
        self._made_from = json.loads(json.dumps(made_from))
        self._said: dict[str, list[str]] = self._known()

    def _known(self) -> dict[str, list[str]]:
        """What the same training saw before it was killed."""
        try:
            found = self._lab.run.store.read_json(self._rel)
        except DamagedRun:
            return {}
        return dict(found["said"]) if found and found["made_from"] == self._made_from else {}

    def looks(self) -> "Looks | None":
        """What to look with while it learns; None for arms without a curve."""
        if self._arm.taught == "gold":
            return None
        from pilotfish.train import Looks

        return Looks(self._lab.recipe.looks, self._look)

    def _look(self, step: int, loaded: "Loaded") -> None:
        said = self._lab.task.ask(loaded, looked_at(self._lab)).label
        self._said[str(step)] = [str(label) for label in said]
        found = {"made_from": self._made_from, "said": self._said}
        self._lab.run.store.write_json(self._rel, found)

    def write(self, folder: Path) -> None:
        """Into the folder of the model, to be committed with it."""
        (folder / LOOKS).write_text(json.dumps(self._said), encoding="utf-8")

    def forget(self) -> None:
        """The arm is committed."""
        self._lab.run.store.remove(self._rel)


def looked_at(lab: Lab) -> list[Example]:
    """The test rows of the curves; they stand in the order of a hash, so they are a sample."""
    return lab.split.test[:LOOKED_AT]
