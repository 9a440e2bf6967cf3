"""Checkpoints inside an arm: all that changes while training, so that a killed one goes on.

On a CPU what goes on is bit for bit what was never killed. A checkpoint counts once its manifest
stands, sealed, with the sha256 of every file.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor

from pilotfish.errors import DamagedRun
from pilotfish.store import Store
from pilotfish.training.loop import Plan, TrainerModule
from pilotfish.training.parallel import (
    broadcast,
    broadcast_object,
    full_parameters,
    gathered,
    highest,
    put_parameters,
    rank,
    trained_parameters,
    world,
)
from pilotfish.training.step_log import StepLog


def no_warning(text: str) -> None:
    """Where nobody listens to warnings."""


@dataclass(frozen=True)
class Checkpoints:
    """Where a training keeps its checkpoints, how often it saves one, and whose they are.

    folder: below the store's root; a checkpoint is its subfolder ckpt-<step>. key: names all that
    decides the weights; a checkpoint with another key is never gone on from. steps, seconds: a
    checkpoint is due every so many steps (None: never), and when the last is older than `seconds`.
    """

    store: Store
    folder: str
    key: str
    steps: int | None = None
    seconds: float = 600.0
    warn: Callable[[str], None] = no_warning

    def names(self) -> list[str]:
        """The checkpoints that are there, in whatever state, newest first."""
        found = self.store.path(self.folder).glob("ckpt-*")
        by_step = {int(path.name[5:]): path.name for path in found if path.name[5:].isdigit()}
        return [f"{self.folder}/{by_step[step]}" for step in sorted(by_step, reverse=True)]

    def remove(self, name: str) -> None:
        """Withdraw a checkpoint, then delete it: half of one must never look whole."""
        self.store.forget(_manifest(name))
        self.store.remove_folder(name)

    def clear(self) -> None:
        """Remove all of them: the model is there, or is to be trained from the beginning."""
        for name in self.names():
            self.remove(name)


class Stateful(Protocol):
    """Something that carries a state from step to step beside the weights."""

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from it; `state` may hold that of others too."""


class CheckpointRequest(NamedTuple):
    """What is to be done after a step, the same on every rank."""

    save: bool
    signum: int  # of the signal to be answered, else 0


NOTHING = CheckpointRequest(save=False, signum=0)


class CheckpointSaver:
    """Saves one training as it goes, and takes it up where it stopped."""

    def __init__(
        self, where: Checkpoints, plan: Plan, work: TrainerModule, also: Stateful | None = None
    ) -> None:
        """also: what else than the learner carries a state."""
        self._where, self._plan, self._work = where, plan, work
        carriers: list[Any] = [work.learner, also]
        self._carriers = [one for one in carriers if hasattr(one, "state")]
        facts = {"key": where.key, "plan": asdict(plan), "world": world()}
        self._key = _digest(facts)
        self._good: str | None = None  # the last checkpoint known to be whole
        self._last = time.monotonic()

    def asked(self, step: int, signum: int) -> CheckpointRequest:
        """Whether to save after this step, and whether some rank was told to stop."""
        often, old = self._where.steps, time.monotonic() - self._last >= self._where.seconds
        due = step < self._plan.steps and (old or (often is not None and step % often == 0))
        found = highest(signum << 1 | due)
        return CheckpointRequest(found > 0, found >> 1)

    def save(self, step: int, trail: StepLog) -> None:
        """Commit a checkpoint after `step` steps, and keep the one before it."""
        weights, moments = trained_parameters(self._work.learner), self._moments()
        ranks = gathered(save(self._of_rank()))
        if rank() == 0:
            name = f"{self._where.folder}/ckpt-{step:08d}"
            with self._where.store.attempt(_manifest(name)) as attempt:
                folder = attempt.folder(name)
                save_file(weights, folder / "weights.safetensors")
                save_file(moments, folder / "optimizer.safetensors")
                for number, state in enumerate(ranks):
                    (folder / f"rank-{number}.safetensors").write_bytes(state)
                written = json.dumps(asdict(trail), allow_nan=False)
                (folder / "trail.json").write_text(written, encoding="utf-8")
                attempt.meta = {"step": step, "key": self._key, "world": world()}
            self._prune(name)
        self._last = time.monotonic()

    def resume(self, trail: StepLog) -> int:
        """Bring everything to where the newest valid checkpoint left it. -> steps done, or 0.

        Damaged ones are passed over with a warning that names them. Raises DamagedRun where there
        are such, and no other to go on from.
        """
        name = broadcast(self._newest() if rank() == 0 else None)
        if name is None:
            return 0
        folder = self._where.store.path(name)
        named = dict(self._work.learner.named_parameters())
        for one, value in broadcast_object(_read(folder / "weights.safetensors")):
            put_parameters(named[one], value)
        self._put_moments(broadcast_object(_read(folder / "optimizer.safetensors")), named)
        mine = broadcast(_rank_files(folder) if rank() == 0 else None)[rank()]
        self._put_of_rank(load(mine))
        known = broadcast(
            (folder / "trail.json").read_text(encoding="utf-8") if rank() == 0 else None
        )
        for field, value in json.loads(known).items():
            setattr(trail, field, value)
        return _step_of(name)

    def _newest(self) -> str | None:
        damaged: list[str] = []
        for name in self._where.names():
            found = self._state(name)
            if found == "valid":
                if damaged:
                    self._where.warn(f"going on from {name}, since {_are(damaged)} damaged")
                self._good = name
                return name
            if found == "damaged":
                damaged.append(name)
            elif found != "unfinished":
                self._where.warn(f"{name} is of other rows, settings or models: not gone on from")
        if damaged:
            raise DamagedRun(
                f"{_are(damaged)} damaged, and there is no valid checkpoint to go on from",
                hint=f"train this arm from the beginning with `pilotfish train "
                f"{self._where.store.root} ... --force`, or delete {self._where.folder}/ckpt-*",
            )
        return None

    def _state(self, name: str) -> str:
        """valid, damaged, foreign, or unfinished: killed while it was saved or removed."""
        store = self._where.store
        try:
            found = store.read_json(_manifest(name))
            if found is None:
                return "unfinished"
            if not _is_of(found, name):
                return "damaged"
            if found["key"] == self._key and store.damage(found):
                return "damaged"
        except DamagedRun:
            return "damaged"
        return "valid" if found["key"] == self._key else "foreign"

    def _prune(self, newest: str) -> None:
        """Keep this one and our last before it; everything else is of no use any more."""
        for name in self._where.names():
            if name not in (newest, self._good):
                self._where.remove(name)
        self._good = newest

    def _moments(self) -> dict[str, Tensor]:
        """All that the optimizer knows of each weight, whole, on rank 0."""
        found, state = {}, self._work.optimizer.state
        for name, weight in self._work.learner.named_parameters():
            for field, value in state.get(weight, {}).items():
                full = full_parameters(value)
                if rank() == 0:
                    found[f"{field}:{name}"] = full.cpu()
        return found

    def _put_moments(self, moments: Any, named: Mapping[str, Tensor]) -> None:
        state = self._work.optimizer.state
        for one, value in moments:
            field, name = one.split(":", 1)
            weight = named[name]
            like = weight.detach() if value.shape == weight.shape and value.ndim else None
            state[weight][field] = (
                value.to(weight.device, copy=True) if like is None else torch.empty_like(like)
            )
            if like is not None:
                put_parameters(state[weight][field], value)

    def _of_rank(self) -> dict[str, Tensor]:
        """What differs between ranks: the generators, and what the loss carries across steps."""
        own = {"rng.cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            own["rng.cuda"] = torch.cuda.get_rng_state()
        for carrier in self._carriers:
            own |= {f"learner.{name}": _plain(value) for name, value in carrier.state().items()}
        return own

    def _put_of_rank(self, own: Mapping[str, Tensor]) -> None:
        torch.set_rng_state(own["rng.cpu"])
        if "rng.cuda" in own:
            torch.cuda.set_rng_state(own["rng.cuda"])
        carried = {
            name.removeprefix("learner."): value
            for name, value in own.items()
            if name.startswith("learner.")
        }
        for carrier in self._carriers:
            carrier.load_state(carried)


def _plain(value: Tensor) -> Tensor:
    return value.detach().cpu().contiguous().clone()


def _manifest(name: str) -> str:
    return f"{name}/manifest.json"


def _is_of(manifest: Mapping[str, Any], name: str) -> bool:
    """Whether a manifest is that of the checkpoint it lies in, and not a copy of another's.

    A copy is sealed and its files are whole, but they are those of another moment.
    """
    files = manifest.get("files")
    here = isinstance(files, dict) and all(file.startswith(f"{name}/") for file in files)
    return here and manifest.get("step") == _step_of(name) and "key" in manifest


def _step_of(name: str) -> int:
    return int(name.rsplit("-", 1)[1])


def _read(path: Path) -> dict[str, Tensor]:
    return load_file(path) if rank() == 0 else {}


def _rank_files(folder: Path) -> list[bytes]:
    count = len(list(folder.glob("rank-*.safetensors")))
    return [(folder / f"rank-{number}.safetensors").read_bytes() for number in range(count)]


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _are(names: list[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"
