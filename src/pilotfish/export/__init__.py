"""One file per trainer that rows are written for: rows and settings in, files of text out."""

from pilotfish.export.axolotl import Axolotl
from pilotfish.export.base import STRONG, Job, Target, TrainSettings, Written
from pilotfish.export.jsonl import Jsonl
from pilotfish.export.llamafactory import LlamaFactory
from pilotfish.export.readme import readme
from pilotfish.export.trl import Trl

TARGETS: dict[str, Target] = {
    "jsonl": Jsonl(),
    "trl": Trl(),
    "llamafactory": LlamaFactory(),
    "axolotl": Axolotl(),
}

HELPERS = {"base", "export", "readme", "rows", "train_settings"}

__all__ = ["STRONG", "TARGETS", "Job", "Target", "TrainSettings", "Written", "readme"]
