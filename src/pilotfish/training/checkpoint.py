"""Checkpoints inside a training: all that changes while it runs, so that a killed one can go on.

On a CPU, a resumed training equals one that was never killed, bit for bit. A checkpoint counts once
its manifest is written, with the sha256 of every file.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor

from pilotfish.errors import DamagedRun
from pilotfish.store import Store
from pilotfish.training.loop import Plan, StepLog, TrainerModule
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


def no_warning(text: str) -> None:
    """Ignore a warning."""


@dataclass(frozen=True)
class Checkpoints:
    """Where a training keeps its checkpoints, and when it saves one.

    Attributes:
        store: Of the run.
        folder: Relative to the store's root; a checkpoint is its subfolder ckpt-<step>.
        key: Names all that decides the weights; a checkpoint with another key is never resumed.
        steps: Steps between two checkpoints; None: by time only.
        seconds: A checkpoint is due when the last one is older than this.
        warn: Called with a sentence for each checkpoint that is passed over.
    """

    store: Store
    folder: str
    key: str
    steps: int | None = None
    seconds: float = 600.0
    warn: Callable[[str], None] = no_warning

    def names(self) -> list[str]:
        """Return the checkpoints that exist, in whatever state, newest first."""
        found = self.store.path(self.folder).glob("ckpt-*")
        by_step = {int(path.name[5:]): path.name for path in found if path.name[5:].isdigit()}
        return [f"{self.folder}/{by_step[step]}" for step in sorted(by_step, reverse=True)]

    def remove(self, name: str) -> None:
        """Remove the manifest, then the files, so that half a checkpoint never looks whole."""
        self.store.forget(_manifest(name))
        self.store.remove_folder(name)

    def clear(self) -> None:
        """Remove all checkpoints: the model is finished, or is to be trained from the start."""
        for name in self.names():
            self.remove(name)


class Stateful(Protocol):
    """Something with a state besides the weights, which a checkpoint must hold."""

    def state(self) -> dict[str, Tensor]:
        """Return the state."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore the state; `state` may hold that of others too."""


class CheckpointRequest(NamedTuple):
    """What to do after a step, the same on every rank."""

    save: bool = False
    signum: int = 0  # the signal to deliver; 0: none


class CheckpointSaver:
    """Saves checkpoints of one training, and resumes it from one."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        plan: Plan,
        module: TrainerModule,
        extra: Stateful | None = None,
    ) -> None:
        """Prepare to save and resume; `extra` has a state besides that of the learner."""
        self._checkpoints, self._module, self._steps = checkpoints, module, plan.steps
        self._stateful: list[Stateful] = [module.learner, *([extra] if extra else [])]
        facts = {"key": checkpoints.key, "plan": asdict(plan), "world": world()}
        self._key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        self._good: str | None = None  # the last checkpoint known to be whole
        self._last = time.monotonic()

    def request(self, step: int, signum: int) -> CheckpointRequest:
        """Decide with all ranks whether to save after a step, and whether a signal came.

        Args:
            step: Steps done.
            signum: The signal that came to this process; 0: none.
        """
        every = self._checkpoints.steps
        old = time.monotonic() - self._last >= self._checkpoints.seconds
        due = step < self._steps and (old or (every is not None and step % every == 0))
        found = highest(signum << 1 | due)
        return CheckpointRequest(found > 0, found >> 1)

    def save(self, step: int, log: StepLog) -> None:
        """Commit a checkpoint after `step` steps, and keep the one before it only."""
        weights, moments = trained_parameters(self._module.learner), self._moments()
        ranks = gathered(save(self._rank_state()))
        if rank() == 0:
            checkpoints = self._checkpoints
            newest = f"{checkpoints.folder}/ckpt-{step:08d}"
            with checkpoints.store.attempt(_manifest(newest)) as attempt:
                folder = attempt.folder(newest)
                save_file(weights, folder / "weights.safetensors")
                save_file(moments, folder / "optimizer.safetensors")
                for number, state in enumerate(ranks):
                    (folder / f"rank-{number}.safetensors").write_bytes(state)
                written = json.dumps(asdict(log), allow_nan=False)
                (folder / "trail.json").write_text(written, encoding="utf-8")
                attempt.meta = {"step": step, "key": self._key, "world": world()}
            for name in checkpoints.names():
                if name not in (newest, self._good):
                    checkpoints.remove(name)
            self._good = newest
        self._last = time.monotonic()

    def resume(self, log: StepLog) -> int:
        """Restore everything from the newest valid checkpoint.

        Damaged checkpoints are passed over with a warning.

        Args:
            log: Filled with the steps done.

        Returns:
            Steps done; 0 without a checkpoint.

        Raises:
            DamagedRun: There are damaged checkpoints, and no valid one.
        """
        name = broadcast(self._newest() if rank() == 0 else None)
        if name is None:
            return 0
        folder = self._checkpoints.store.path(name)
        named = dict(self._module.learner.named_parameters())
        for one, value in broadcast_object(_read(folder / "weights.safetensors")):
            put_parameters(named[one], value)
        self._put_moments(broadcast_object(_read(folder / "optimizer.safetensors")), named)
        files: Any = None
        if rank() == 0:
            count = len(list(folder.glob("rank-*.safetensors")))
            states = [
                (folder / f"rank-{number}.safetensors").read_bytes() for number in range(count)
            ]
            files = states, (folder / "trail.json").read_text(encoding="utf-8")
        states, written = broadcast(files)
        self._put_rank_state(load(states[rank()]))
        for field, value in json.loads(written).items():
            setattr(log, field, value)
        return _step_of(name)

    def _newest(self) -> str | None:
        damaged: list[str] = []
        checkpoints = self._checkpoints
        for name in checkpoints.names():
            found = self._status(name)
            if found == "valid":
                if damaged:
                    checkpoints.warn(f"resuming from {name}, since {_are(damaged)} damaged")
                self._good = name
                return name
            if found == "damaged":
                damaged.append(name)
            elif found == "foreign":
                checkpoints.warn(f"{name} is of other rows, settings or models: not resumed")
        if damaged:
            raise DamagedRun(
                f"{_are(damaged)} damaged, and there is no valid checkpoint to resume from",
                hint=f"train this arm from the beginning with `pilotfish train "
                f"{checkpoints.store.root} ... --force`, or delete {checkpoints.folder}/ckpt-*",
            )
        return None

    def _status(self, name: str) -> str:
        """Return valid, damaged, foreign, or unfinished: killed while being saved or removed."""
        store = self._checkpoints.store
        try:
            manifest = store.read_json(_manifest(name))
            if manifest is None:
                return "unfinished"
            # a copy of another checkpoint is whole too, but of another step
            files = manifest.get("files")
            own = isinstance(files, dict) and all(file.startswith(f"{name}/") for file in files)
            if not (own and manifest.get("step") == _step_of(name) and "key" in manifest):
                return "damaged"
            if manifest["key"] != self._key:
                return "foreign"
            return "damaged" if store.damage(manifest) else "valid"
        except DamagedRun:
            return "damaged"

    def _moments(self) -> dict[str, Tensor]:
        """Return the optimizer's state of each weight, whole, on rank 0."""
        found, state = {}, self._module.optimizer.state
        for name, weight in self._module.learner.named_parameters():
            for field, value in state.get(weight, {}).items():
                full = full_parameters(value)
                if rank() == 0:
                    found[f"{field}:{name}"] = full.cpu()
        return found

    def _put_moments(
        self, moments: Iterable[tuple[str, Tensor]], named: Mapping[str, Tensor]
    ) -> None:
        state: dict[Any, dict[str, Tensor]] = self._module.optimizer.state
        for one, value in moments:
            field, name = one.split(":", 1)
            weight = named[name]
            if value.shape == weight.shape and value.ndim:
                state[weight][field] = torch.empty_like(weight.detach())
                put_parameters(state[weight][field], value)
            else:
                state[weight][field] = value.to(weight.device, copy=True)

    def _rank_state(self) -> dict[str, Tensor]:
        """Return what differs between ranks: random generators, and state of learner and extra."""
        own = {"rng.cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            own["rng.cuda"] = torch.cuda.get_rng_state()
        for one in self._stateful:
            for name, value in one.state().items():
                own[f"learner.{name}"] = value.detach().cpu().contiguous().clone()
        return own

    def _put_rank_state(self, own: Mapping[str, Tensor]) -> None:
        torch.set_rng_state(own["rng.cpu"])
        if "rng.cuda" in own:
            torch.cuda.set_rng_state(own["rng.cuda"])
        prefix = "learner."
        state = {k.removeprefix(prefix): v for k, v in own.items() if k.startswith(prefix)}
        for one in self._stateful:
            one.load_state(state)


def _manifest(name: str) -> str:
    return f"{name}/manifest.json"


def _step_of(name: str) -> int:
    return int(name.rsplit("-", 1)[1])


def _read(path: Path) -> dict[str, Tensor]:
    return load_file(path) if rank() == 0 else {}


def _are(names: list[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"
