"""Three thin runners over one scorer: this process or several, a Ray cluster, equal ranks.

A shard is the unit of commit, of retry and of scheduling. What crosses between processes are shard
numbers, receipts and troubles; what was measured goes through the run folder alone.
"""

from pilotfish.engine.executors.crew import Crew, Shift
from pilotfish.engine.executors.local import Processes, loop
from pilotfish.engine.executors.ranks import Place, finished, order, place_of, take_part
from pilotfish.engine.executors.ray import actors
from pilotfish.engine.executors.spec import ScoreSpec, load_for, open_scorer
from pilotfish.engine.executors.trouble import Tries, Trouble
from pilotfish.engine.executors.worker import Opened, Worker

__all__ = [
    "Crew",
    "Opened",
    "Place",
    "Processes",
    "ScoreSpec",
    "Shift",
    "Tries",
    "Trouble",
    "Worker",
    "actors",
    "finished",
    "load_for",
    "loop",
    "open_scorer",
    "order",
    "place_of",
    "take_part",
]
