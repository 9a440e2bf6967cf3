"""One file per trainer that rows are written for: rows and settings in, files of text out."""

from pilotfish.exports.axolotl import Axolotl
from pilotfish.exports.job import STRONG, How, Job, Target, Written
from pilotfish.exports.jsonl import Jsonl
from pilotfish.exports.llamafactory import LlamaFactory
from pilotfish.exports.readme import readme
from pilotfish.exports.trl import Trl

TARGETS: dict[str, Target] = {
    "jsonl": Jsonl(),
    "trl": Trl(),
    "llamafactory": LlamaFactory(),
    "axolotl": Axolotl(),
}

HELPERS = ("job", "readme", "rows", "settings")

__all__ = ["STRONG", "TARGETS", "How", "Job", "Target", "Written", "readme"]
