"""train under torchrun: rank 0 leads (lock, files, words), the other ranks only train along."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pilotfish.errors import Interrupted, PilotfishError, UsageError

if TYPE_CHECKING:
    from pilotfish.models import Loaded

FIRST = 5.0  # seconds that a follower leaves rank 0 to say first what went wrong on both


@dataclass(frozen=True)
class TeacherAt:
    """A model by its place: what is told in the place of the model itself."""

    path: str
    digest: str
    precision: str

    def load(self) -> "Loaded":
        """The same model in this process. UsageError where its files are others here."""
        from pilotfish.models import load

        found = load(self.path, precision=self.precision)
        if found.digest != self.digest:
            raise UsageError(f"'{self.path}' is another model here than it is for rank 0")
        return found


def is_follower() -> bool:
    """Whether this process was started beside others and is not the first of them."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and os.environ.get("RANK", "0") != "0"


@contextmanager
def lead() -> Iterator[None]:
    """Lead the other processes, where there are any, and let them go when all is done."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    from pilotfish.training.parallel import broadcast

    _join()
    yield
    broadcast(None)
    _part()


def follower_loop() -> None:
    """Train along until rank 0 says that all is done, or is gone: then it has said why."""
    _join()
    while (job := _next()) is not None:
        _along(*job)


def _next() -> Any:
    from pilotfish.training.parallel import broadcast

    with suppress(RuntimeError):  # the connection broke
        if (job := broadcast(None)) is None:
            _part()
        return job
    return None


def run_on_all_ranks(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call `work`, here and on every follower, with arguments that say the same to all."""
    from pilotfish.training.parallel import broadcast, world

    if world() > 1:
        broadcast((work, args, {name: _for_others(value) for name, value in kwargs.items()}))
    return work(*args, **kwargs)


def _for_others(value: Any) -> Any:
    """What stands for an argument elsewhere: only rank 0 speaks, and models stay where they are."""
    from pilotfish.models import Loaded
    from pilotfish.training.checkpoint import Checkpoints, no_warning

    if isinstance(value, Loaded):
        return TeacherAt(value.path, value.digest, value.precision)
    if isinstance(value, Checkpoints):
        return replace(value, warn=no_warning)
    return None if callable(value) else value


def _along(work: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> None:
    try:
        heard = {
            name: value.load() if isinstance(value, TeacherAt) else value
            for name, value in kwargs.items()
        }
        work(*args, **heard)
    except Interrupted as stop:
        raise SystemExit(stop.exit_code) from None
    except PilotfishError:
        time.sleep(FIRST)
        raise


def _join() -> None:
    """Meet the other processes: over NCCL with GPUs, over gloo without."""
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")
    from pilotfish.training.setup import accelerator

    accelerator()


def _part() -> None:
    import torch.distributed as dist

    from pilotfish.training.parallel import control

    control.cache_clear()  # else the group outlives its end, with threads of its own
    dist.destroy_process_group()
