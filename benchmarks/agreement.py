"""How well the fast precisions agree with fp32 on trained models: `python -m benchmarks.agreement`.

Random weights flatter a coarse number format; these models learned something. All are tiny, so
this is evidence about numbers, not about speed.
"""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.contenders import OURS
from benchmarks.machine import parser, settle, write
from benchmarks.ours import Ours
from benchmarks.rank import Floats, agreement
from benchmarks.trained import Trained, trained
from pilotfish.errors import UsageError

MAX_LENGTH = 512
ROWS, QUICK_ROWS = 2000, 300


def main() -> None:
    made = parser(__doc__ or "")
    made.add_argument("--rows", type=int)
    options = made.parse_args()
    options.rows = options.rows or (QUICK_ROWS if options.quick else ROWS)
    settle(options)
    with tempfile.TemporaryDirectory() as folder:
        models = {
            each.name: one_model(each, Path(folder))
            for each in trained(Path(folder), options.rows, options.seed)
        }
    write("agreement", options, {"rows": options.rows, "models": models})


def one_model(each: Trained, folder: Path) -> dict[str, Any]:
    """Agreement of every precision with fp32, or why there is none."""
    exact = numbers(each, folder, "fp32")
    found: dict[str, Any] = {}
    for precision in (name for name in OURS.values() if name != "fp32"):
        try:
            found[precision] = agreement(exact, numbers(each, folder, precision))
        except UsageError as error:
            found[precision] = {"absent": str(error)}
    return {"of": each.of, "precisions": found}


def numbers(each: Trained, folder: Path, precision: str) -> dict[str, Floats]:
    """Mean NLLs of all rows in one precision. Raises UsageError where the machine lacks it."""
    work = folder / f"{each.name}-{precision}"
    ours = Ours(each.model, each.data, work, precision=precision, max_length=MAX_LENGTH)
    ours.run()
    return ours.numbers()


if __name__ == "__main__":
    main()
