"""pilotfish, which logs what every model is run for.

`python -m tests.experiments.counted LOG KILL ARGS`.

As a unit of work begins, a line of LOG names it: a shard measured for one key, a tuning, a
training, a model judged. The process is killed by SIGKILL as its unit number KILL begins; 0: never.
"""

import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from pilotfish import data
from pilotfish.cli.main import main
from pilotfish.engine.scorer import ShardScorer
from pilotfish.evaluation import METRICS, results
from pilotfish.experiments import train
from pilotfish.scoring import weak_model

SHARD_ROWS = 6  # so that small pools lie in several shards


class Units:
    """Writes a line per unit, at once and for good, and dies where it was told to."""

    def __init__(self, path: str, kill: int) -> None:
        self._log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._left = kill
        self.judged = ""  # the arm and seed that are looked at

    def begin(self, unit: str) -> None:
        """A model is about to be run for this."""
        os.write(self._log, f"{unit}\n".encode())
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(self, owner: Any, name: str, unit: Callable[..., str]) -> None:
        """Tell of every call of a function; unit: what its arguments name, "" for no work."""
        real = getattr(owner, name)

        @wraps(real)
        def told(*args: Any, **kwargs: Any) -> Any:
            if named := unit(*args, **kwargs):
                self.begin(named)
            return real(*args, **kwargs)

        setattr(owner, name, told)


class Judging:
    """A metric that tells of the model it is about to ask."""

    def __init__(self, metric: Any, units: Units) -> None:
        self._metric, self._units = metric, units

    def __getattr__(self, name: str) -> Any:
        return getattr(self._metric, name)

    def items(self, loaded: Any, examples: Any) -> Any:
        """The items of the metric itself."""
        self._units.begin(f"judge {self._units.judged}")
        return self._metric.items(loaded, examples)


def scoring(scorer: ShardScorer, work: Any, *_: Any) -> str:
    """The shard and what is missing of it; nothing where it is intact."""
    keys = ",".join(sorted(scorer.keys[need] for need in work.encoded))
    return f"score {keys} {work.shard}" if keys else ""


def count(units: Units) -> None:
    """Tell of everything a model is run for."""

    def judging(*_: Any, arm: str, seed: int, **__: Any) -> str:
        units.judged = f"{arm} {seed}"
        return ""  # it may stand there already

    units.before(ShardScorer, "_measure", scoring)
    units.before(weak_model, "_tune", lambda *_, folder, **__: f"tune {folder}")
    units.before(train, "train_model", lambda run, job, **_: f"train {job.arm} {job.seed}")
    units.before(results, "evaluate_model", judging)
    METRICS.update({name: Judging(metric, units) for name, metric in METRICS.items()})


if __name__ == "__main__":
    log, kill, *words = sys.argv[1:]
    count(Units(log, int(kill)))
    (data.read.__kwdefaults__ or {})["shard_rows"] = SHARD_ROWS
    sys.argv = ["pilotfish", *words]
    main()
