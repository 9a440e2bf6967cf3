"""What each arm is taught, and its training: one model per arm and seed, in equal steps."""

import hashlib
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from pilotfish.errors import DataError
from pilotfish.flows.costs import training_cost
from pilotfish.flows.reading import fingerprint
from pilotfish.flows.train import CHANGE_NOTHING, train_folder
from pilotfish.flows.w2s_arms import NAIVE, WEAK, W2sArm
from pilotfish.flows.w2s_lab import Lab, digest_of, said_by
from pilotfish.flows.w2s_task import How, Lesson, Said, lesson, right_of
from pilotfish.labels import Candidates, make_filter
from pilotfish.records import Example

if TYPE_CHECKING:
    from pilotfish.models import Loaded
    from pilotfish.train import Looks

LOOKS = "looks.json"  # in the folder of a model: step -> its answers then
LOOKED_AT = 200  # test rows, at most: a curve is no result


def train_w2s_arm(lab: Lab, arm: W2sArm, seed: int) -> None:
    """Train one arm with one seed into train/<arm>/seed-<n>/, or reuse an intact one."""
    taught, about = lesson_of(lab, arm, seed)
    made_from = _made_from(lab, arm, seed, taught)
    folder = train_folder(arm.name, seed)
    found = lab.run.store.manifest(f"{folder}/manifest.json")
    if found is not None and found.get("made_from") == json.loads(json.dumps(made_from)):
        return
    lab.run.store.forget(f"judge/{arm.name}/seed-{seed}.json")  # another model was judged
    _train(lab, arm, seed, taught, {**about, "made_from": made_from})


def lesson_of(lab: Lab, arm: W2sArm, seed: int) -> tuple[Lesson, dict[str, Any]]:
    """The rows and labels of an arm, and what its manifest says of them."""
    if arm.taught == "gold":
        return Lesson(lab.split.weak if arm.half == "weak" else lab.split.student), {}
    by = teacher_of(arm)
    rows = lab.split.student
    said = said_by(lab, by, seed, rows, "student", states=_states(lab, by))
    usable = said.reason == ""
    about: dict[str, Any] = {"labelled_by": by, "unlabelled": int((~usable).sum())}
    if arm.filter:
        seen, sifter = candidates(lab, seed, said), make_filter(arm.filter)
        usable &= sifter.sift(seen).kept
        facts = sifter.facts(seen)
        used = len(lab.split.validation) if "gold_rows" in facts else 0
        about |= {"filter": arm.filter, "filtered": facts, "gold_rows": used}
    if not usable.any():
        raise _nothing_to_teach(arm, said)
    about["labels_right"] = float(right_of(rows, said.label)[usable].mean())
    return lesson(rows, said, usable, lab.model(by, seed)), about


def teacher_of(arm: W2sArm) -> str:
    """The arm whose model labelled the rows of an arm not taught by people."""
    return NAIVE if arm.taught == "own" else WEAK.name


def _nothing_to_teach(arm: W2sArm, said: Said) -> DataError:
    why = Counter(str(reason) for reason in said.reason if reason).most_common(3)
    told = "; ".join(f"{reason} ({times:,})" for reason, times in why) or "the filter kept none"
    return DataError(
        f"no row is left to teach the arm '{arm.name}': {told}",
        hint="train the weak model longer (weak_train), or filter less",
    )


def candidates(lab: Lab, seed: int, said: Said) -> Candidates:
    """The weak labels of the student half, and of the validation rows whose true ones are known."""
    by = digest_of(lab, WEAK.name, seed)
    labels = said.labels(lab.split.student, lab.task.classes, by)
    if not lab.split.validation:
        return Candidates(labels, said.states)
    held = lab.split.validation
    seen = said_by(lab, WEAK.name, seed, held, "validation", states=_states(lab, WEAK.name))
    right = right_of(held, seen.label)
    return Candidates(
        labels, said.states, seen.labels(held, lab.task.classes, by), seen.states, right
    )


def _states(lab: Lab, by: str) -> bool:
    return bool(lab.recipe.filters) and bool(lab.task.classes) and by == WEAK.name


def _made_from(lab: Lab, arm: W2sArm, seed: int, taught: Lesson) -> dict[str, Any]:
    """All that decides the weights; models by their content, never by their names."""
    digest = hashlib.sha256()
    if taught.probs is not None:
        digest.update(np.ascontiguousarray(taught.probs).tobytes())
    config = lab.recipe.weak_train if arm.model == "weak" else lab.recipe.train
    return {
        "arm": arm.name,
        "stream": lab.stream(seed),
        "model": lab.digests[arm.model],
        "teacher": None if arm.taught == "gold" else digest_of(lab, teacher_of(arm), seed),
        "loss": arm.loss,
        "looks": 0 if arm.taught == "gold" else lab.recipe.looks,
        "steps": None if arm.model == "weak" else lab.steps,
        "config": config.model_dump(mode="json", exclude=CHANGE_NOTHING),
        "rows": fingerprint(taught.rows),
        "probs": digest.hexdigest(),
        "task": lab.task.described,
    }


def _train(lab: Lab, arm: W2sArm, seed: int, taught: Lesson, facts: dict[str, Any]) -> None:
    from pilotfish.models import identify

    recipe, name, folder = lab.recipe, f"{arm.name} seed {seed}", train_folder(arm.name, seed)
    shared = recipe.weak_train if arm.model == "weak" else recipe.train
    model = recipe.weak if arm.model == "weak" else recipe.strong
    start = time.monotonic()
    with lab.run.store.attempt(f"{folder}/manifest.json") as attempt:
        temp = attempt.folder(folder)
        seen: dict[int, list[str]] = {}
        how = How(
            lab.stream(seed), temp, None if arm.model == "weak" else lab.steps,
            lambda step, steps, loss: lab.progress.step(f"train {name}", step, steps),
            _looks(lab, arm, seen),
        )  # fmt: skip
        result = lab.task.learn(taught, model, shared.changed({"loss": arm.loss}), how=how)
        (temp / LOOKS).write_text(json.dumps(seen), encoding="utf-8")
        own = {"arm": arm.name, "seed": seed, "model_digest": identify(str(temp))}
        attempt.meta = {**result, **facts, **own}
    seconds = time.monotonic() - start
    lab.run.cost("train", name, seconds=seconds, rows=len(taught.rows), **training_cost(result))


def _looks(lab: Lab, arm: W2sArm, seen: dict[int, list[str]]) -> "Looks | None":
    """Put an arm's answers to some of the test rows into `seen`, by step, while it learns."""
    if arm.taught == "gold":
        return None
    from pilotfish.train import Looks

    def look(step: int, loaded: "Loaded") -> None:
        seen[step] = [str(label) for label in lab.task.ask(loaded, looked_at(lab)).label]

    return Looks(lab.recipe.looks, look)


def looked_at(lab: Lab) -> list[Example]:
    """The test rows of the curves; they stand in the order of a hash, so they are a sample."""
    return lab.split.test[:LOOKED_AT]
