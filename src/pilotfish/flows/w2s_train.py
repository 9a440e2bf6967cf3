"""What each arm is taught, and its training: one model per arm and seed, in equal steps."""

import hashlib
import json
import time
from typing import Any

import numpy as np

from pilotfish.flows.costs import training_cost
from pilotfish.flows.reading import fingerprint
from pilotfish.flows.train import CHANGE_NOTHING, train_folder
from pilotfish.flows.w2s_arms import NAIVE, WEAK, W2sArm
from pilotfish.flows.w2s_lab import Lab, digest_of, said_by
from pilotfish.flows.w2s_task import How, Lesson, Said, gold, right_of
from pilotfish.labels import Candidates, make_filter


def train_w2s_arm(lab: Lab, arm: W2sArm, seed: int) -> None:
    """Train one arm with one seed into train/<arm>/seed-<n>/, or reuse an intact one."""
    lesson, about = lesson_of(lab, arm, seed)
    made_from = _made_from(lab, arm, seed, lesson)
    folder = train_folder(arm.name, seed)
    found = lab.run.store.manifest(f"{folder}/manifest.json")
    if found is not None and found.get("made_from") == json.loads(json.dumps(made_from)):
        return
    lab.run.store.forget(f"judge/{arm.name}/seed-{seed}.json")  # another model was judged
    _train(lab, arm, seed, lesson, {**about, "made_from": made_from})


def lesson_of(lab: Lab, arm: W2sArm, seed: int) -> tuple[Lesson, dict[str, Any]]:
    """The rows and labels of an arm, and what its manifest says of them."""
    if arm.taught == "gold":
        return gold(lab.split.weak if arm.half == "weak" else lab.split.student), {}
    by = NAIVE if arm.taught == "own" else WEAK.name
    rows, task = lab.split.student, lab.task
    said = said_by(lab, by, seed, rows, "student", states=_states(lab, by))
    probs = None if said.log_probs is None else np.exp(said.log_probs)
    whole = Lesson(rows, said.label, probs, lab.model(by, seed))
    usable = said.reason == ""
    about: dict[str, Any] = {"labelled_by": by, "unlabelled": int((~usable).sum())}
    if arm.filter:
        seen = candidates(lab, seed, said)
        sifter = make_filter(arm.filter)
        usable &= sifter.sift(seen).kept
        used = 0 if seen.gold_labels is None or "trust" not in arm.filter else len(seen.gold_labels)
        about |= {"filter": arm.filter, "gold_rows": used, "filtered": sifter.facts(seen)}
    taught = whole.take(np.flatnonzero(usable))
    right = right_of(taught.rows, taught.label)
    about["labels_right"] = float(right.mean()) if right.size else None
    return taught, {**about, "task": task.metric}


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


def _made_from(lab: Lab, arm: W2sArm, seed: int, lesson: Lesson) -> dict[str, Any]:
    """All that decides the weights; models by their content, never by their names."""
    digest = hashlib.sha256("\n".join(map(str, lesson.label)).encode())
    if lesson.probs is not None:
        digest.update(np.ascontiguousarray(lesson.probs).tobytes())
    config = lab.recipe.weak_train if arm.model == "weak" else lab.recipe.train
    return {
        "arm": arm.name,
        "stream": lab.stream(seed),
        "model": lab.digests[arm.model],
        "teacher": digest_of(lab, WEAK.name, seed) if lesson.teacher else None,
        "loss": arm.loss,
        "stop": arm.stop,
        "steps": None if arm.model == "weak" else lab.steps,
        "config": config.model_dump(mode="json", exclude=CHANGE_NOTHING),
        "rows": fingerprint(lesson.rows),
        "labels": digest.hexdigest(),
        "task": lab.task.described,
    }


def _train(lab: Lab, arm: W2sArm, seed: int, lesson: Lesson, facts: dict[str, Any]) -> None:
    from pilotfish.models import identify

    recipe, name, folder = lab.recipe, f"{arm.name} seed {seed}", train_folder(arm.name, seed)
    shared = recipe.weak_train if arm.model == "weak" else recipe.train
    model = recipe.weak if arm.model == "weak" else recipe.strong
    start = time.monotonic()
    with lab.run.store.attempt(f"{folder}/manifest.json") as attempt:
        temp = attempt.folder(folder)
        how = How(
            lab.stream(seed), temp, None if arm.model == "weak" else lab.steps,
            lambda step, steps, loss: lab.progress.step(f"train {name}", step, steps),
        )  # fmt: skip
        result = lab.task.learn(lesson, model, shared.changed({"loss": arm.loss}), how=how)
        own = {"arm": arm.name, "seed": seed, "model_digest": identify(str(temp))}
        attempt.meta = {**result, **facts, **own}
    seconds = time.monotonic() - start
    lab.run.cost("train", name, seconds=seconds, rows=len(lesson.rows), **training_cost(result))
