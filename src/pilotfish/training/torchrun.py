"""Training under torchrun: rank 0 leads (lock, files, output), the other ranks only train."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pilotfish.errors import Interrupted, PilotfishError, UsageError

if TYPE_CHECKING:
    from pilotfish.models import Loaded

ERROR_DELAY = 5.0  # seconds a follower waits, so that rank 0 reports first what failed on both


@dataclass(frozen=True)
class ModelReference:
    """Where a model is: sent to other ranks instead of the model itself."""

    path: str
    digest: str
    precision: str

    def load(self) -> "Loaded":
        """Load the same model in this process; raise UsageError if its files differ here."""
        from pilotfish.models import load

        found = load(self.path, precision=self.precision)
        if found.digest != self.digest:
            raise UsageError(f"'{self.path}' is another model here than it is for rank 0")
        return found


def is_follower() -> bool:
    """Return whether this is one of several processes, and not the first."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and os.environ.get("RANK", "0") != "0"


@contextmanager
def lead() -> Iterator[None]:
    """Lead the other processes, if there are any, and end them when all is done."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    from pilotfish.training.parallel import broadcast

    _join()
    yield
    broadcast(None)
    _leave()


def follower_loop() -> None:
    """Train as rank 0 does, until it is done or lost; it reports the reason."""
    from pilotfish.training.parallel import broadcast

    _join()
    while True:
        job = None
        with suppress(RuntimeError):  # the connection broke
            if (job := broadcast(None)) is None:
                _leave()
        if job is None:
            return
        work, args, kwargs = job
        try:
            loaded = {
                name: value.load() if isinstance(value, ModelReference) else value
                for name, value in kwargs.items()
            }
            work(*args, **loaded)
        except Interrupted as stop:
            raise SystemExit(stop.exit_code) from None
        except PilotfishError:
            time.sleep(ERROR_DELAY)
            raise


def run_on_all_ranks(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function on this rank and on every follower.

    Models among the keyword arguments are sent as references. Followers get no callbacks, and no
    warnings of checkpoints: only rank 0 writes output.

    Args:
        work: A function at the top level of a module.
        args: Positional arguments, the same on all ranks.
        kwargs: Keyword arguments.

    Returns:
        The result on this rank.
    """
    from pilotfish.models import Loaded
    from pilotfish.training.checkpoint import Checkpoints, no_warning
    from pilotfish.training.parallel import broadcast, world

    if world() > 1:
        sent: dict[str, Any] = {}
        for name, value in kwargs.items():
            if isinstance(value, Loaded):
                sent[name] = ModelReference(value.path, value.digest, value.precision)
            elif isinstance(value, Checkpoints):
                sent[name] = replace(value, warn=no_warning)
            else:
                sent[name] = None if callable(value) else value
        broadcast((work, args, sent))
    return work(*args, **kwargs)


def _join() -> None:
    """Meet the other processes: over NCCL with GPUs, over gloo without."""
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")
    from pilotfish.training.setup import accelerator

    accelerator()


def _leave() -> None:
    import torch.distributed as dist

    from pilotfish.training.parallel import control

    control.cache_clear()  # else the group outlives its end, with threads of its own
    dist.destroy_process_group()
