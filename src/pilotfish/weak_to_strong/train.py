"""What each arm is taught, and its training: one model per arm and seed, in equal steps."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pilotfish.data.run_pool import fingerprint
from pilotfish.errors import DamagedRun, DataError
from pilotfish.experiments.train import (
    CHANGE_NOTHING,
    checkpoints_of,
    forget_checkpoints,
    train_folder,
)
from pilotfish.flops import training_cost
from pilotfish.labeling.filters import Candidates, make_filter
from pilotfish.labeling.table import ABSTAINED, FAILED, Labels
from pilotfish.records import Example
from pilotfish.weak_to_strong.arms import NAIVE, WEAK, W2sArm
from pilotfish.weak_to_strong.experiment import Lab, digest_of, said_by
from pilotfish.weak_to_strong.predictions import Held, Lesson, Said, lesson, right_of
from pilotfish.weak_to_strong.tasks import How

if TYPE_CHECKING:
    from pilotfish.models import Loaded
    from pilotfish.training.validation import StepCallback

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

    def looks(self) -> "StepCallback | None":
        """What to look with while it learns; None for arms without a curve."""
        if self._arm.taught == "gold":
            return None
        from pilotfish.training.validation import StepCallback

        return StepCallback(self._lab.recipe.looks, self._look)

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


def train_w2s_arm(lab: Lab, arm: W2sArm, seed: int) -> None:
    """Train one arm with one seed into train/<arm>/seed-<n>/, or reuse an intact one.

    One that was killed goes on from its newest checkpoint.
    """
    course = course_of(lab, arm, seed)
    made_from = _made_from(lab, arm, seed, course)
    folder = train_folder(arm.name, seed)
    found = lab.run.store.manifest(f"{folder}/manifest.json")
    seen = Seen(lab, arm, seed, made_from)
    if found is None or found.get("made_from") != json.loads(json.dumps(made_from)):
        lab.run.store.forget(f"judge/{arm.name}/seed-{seed}.json")  # another model was judged
        _train(lab, arm, seed, course, made_from=made_from, seen=seen)
    forget_checkpoints(lab.run, folder)
    seen.forget()


@dataclass(frozen=True)
class Course:
    """All that an arm learns from. held: what may choose the step that is kept."""

    taught: Lesson
    held: Held | None
    about: dict[str, Any]  # what its manifest says of it


def course_of(lab: Lab, arm: W2sArm, seed: int) -> Course:
    """The rows and labels of an arm. DataError where a weak model leaves none to teach."""
    if arm.taught == "gold":
        return Course(Lesson(lab.split.weak if arm.half == "weak" else lab.split.student), None, {})
    by, rows = teacher_of(arm), lab.split.student
    said = said_by(lab, by, seed, rows, "student", states=_states(lab, by))
    labels = _labels(lab, by, seed, rows, said)
    about: dict[str, Any] = {
        "labelled_by": by,
        "unlabelled": labels.counts[FAILED],
        "abstained": labels.counts[ABSTAINED],
        "gold_rows": 0,
    }
    usable = labels.ok
    if arm.filter:
        seen, sifter = _candidates(lab, seed, labels, said), make_filter(arm.filter)
        usable &= sifter.sift(seen).kept
        facts = sifter.facts(seen)
        about |= {"filter": arm.filter, "filtered": facts}
        about["gold_rows"] = len(lab.split.validation) if "gold_rows" in facts else 0
    if not usable.any():
        raise _nothing_to_teach(arm, labels)
    held = _held(lab, arm, seed) if arm.stop else None
    if held and arm.is_oracle:
        about["gold_rows"] = len(held.gold)
    about["labels_right"] = float(right_of(rows, said.label)[usable].mean())
    taught = lesson(rows, said, usable, soft=lab.kind == "soft", teacher=lab.model(by, seed))
    return Course(taught, held, about)


def teacher_of(arm: W2sArm) -> str:
    """The arm whose model labelled the rows of an arm not taught by people."""
    return NAIVE if arm.taught == "own" else WEAK.name


def _nothing_to_teach(arm: W2sArm, labels: Labels) -> DataError:
    why = Counter(str(reason) for reason in labels.reason if reason).most_common(3)
    told = "; ".join(f"{reason} ({times:,})" for reason, times in why) or "the filter kept none"
    return DataError(
        f"no row is left to teach the arm '{arm.name}': {told}",
        hint="train the weak model longer (weak_train), filter less, or lower labels.abstain",
    )


def _labels(lab: Lab, by: str, seed: int, rows: Sequence[Example], said: Said) -> Labels:
    """What a model said as labels, those it is not sure enough of set aside."""
    labels = said.labels(
        rows, lab.task.classes, digest_of(lab, by, seed), voted=lab.kind == "consistency"
    )
    least = lab.recipe.labels.abstain
    if least is None:
        return labels
    with np.errstate(invalid="ignore"):
        unsure = ~(labels.confidence >= least)
    return labels.set_aside(unsure, ABSTAINED, "confidence below labels.abstain")


def _validation(lab: Lab, seed: int) -> tuple[Said, Labels]:
    """What the weak model says to the validation rows."""
    rows = lab.split.validation
    states = _states(lab, WEAK.name)
    said = said_by(lab, WEAK.name, seed, rows, "validation", states=states)
    return said, _labels(lab, WEAK.name, seed, rows, said)


def _candidates(lab: Lab, seed: int, labels: Labels, said: Said) -> Candidates:
    """The weak labels of the student half, and of the validation rows whose true ones are known."""
    held = lab.split.validation
    if not held:
        return Candidates(labels, said.states)
    seen, known = _validation(lab, seed)
    return Candidates(labels, said.states, known, seen.states, right_of(held, seen.label))


def _held(lab: Lab, arm: W2sArm, seed: int) -> Held:
    """The validation rows that have a weak label, the same for both kinds of labels."""
    rows = lab.split.validation
    said, labels = _validation(lab, seed)
    if not labels.ok.any():
        raise _nothing_to_teach(arm, labels)
    gold = [row for row, ok in zip(rows, labels.ok, strict=True) if ok]
    return Held(lesson(rows, said, labels.ok, soft=lab.kind == "soft"), gold, arm.stop)


def _states(lab: Lab, by: str) -> bool:
    return bool(lab.recipe.filters) and bool(lab.task.classes) and by == WEAK.name


def _made_from(lab: Lab, arm: W2sArm, seed: int, course: Course) -> dict[str, Any]:
    """All that decides the weights; models by their content, never by their names."""
    config = lab.recipe.weak_train if arm.model == "weak" else lab.recipe.train
    rows, probs = _marks(course.taught)
    return {
        "arm": arm.name,
        "stream": lab.stream(seed),
        "model": lab.digests[arm.model],
        "teacher": None if arm.taught == "gold" else digest_of(lab, teacher_of(arm), seed),
        "loss": arm.loss,
        "looks": 0 if arm.taught == "gold" else lab.recipe.looks,
        "steps": None if arm.model == "weak" else lab.steps,
        "config": config.model_dump(mode="json", exclude=CHANGE_NOTHING),
        "rows": rows,
        "probs": probs,
        "task": lab.task.described,
        **({"held": _marks_of_held(course.held)} if course.held else {}),
    }


def _marks(taught: Lesson) -> tuple[str, str]:
    """(of the rows and their labels, of the probabilities)."""
    digest = hashlib.sha256()
    if taught.probs is not None:
        digest.update(np.ascontiguousarray(taught.probs).tobytes())
    return fingerprint(taught.rows), digest.hexdigest()


def _marks_of_held(held: Held) -> dict[str, Any]:
    return {"by": held.stop, "weak": _marks(held.weak), "gold": fingerprint(held.gold)}


def _train(
    lab: Lab, arm: W2sArm, seed: int, course: Course, *, made_from: dict[str, Any], seen: Seen
) -> None:
    from pilotfish.models import identify

    recipe, name, folder = lab.recipe, f"{arm.name} seed {seed}", train_folder(arm.name, seed)
    shared = recipe.weak_train if arm.model == "weak" else recipe.train
    model = recipe.weak if arm.model == "weak" else recipe.strong
    config = shared.changed({"loss": arm.loss})
    start = time.monotonic()
    with lab.run.store.attempt(f"{folder}/manifest.json") as attempt:
        temp = attempt.folder(folder)
        how = How(
            lab.stream(seed), temp, None if arm.model == "weak" else lab.steps,
            lambda step, steps, loss: lab.progress.step(f"train {name}", step, steps),
            seen.looks(),
            checkpoints_of(lab.run, folder, config, made_from, lab.progress),
            course.held,
        )  # fmt: skip
        result = lab.task.learn(course.taught, model, config, how=how)
        seen.write(temp)
        own = {"arm": arm.name, "seed": seed, "model_digest": identify(str(temp))}
        stopped = {"oracle": arm.is_oracle} if arm.stop else {}
        attempt.meta = {**result, **course.about, **stopped, **own, "made_from": made_from}
    seconds, rows = time.monotonic() - start, len(course.taught.rows)
    lab.run.cost("train", name, seconds=seconds, rows=rows, **training_cost(result))
