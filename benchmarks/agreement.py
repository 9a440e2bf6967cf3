"""How well the fast precisions agree with fp32 on trained models: `python -m benchmarks.agreement`.

Random weights flatter a coarse number format; these models learned something. All are small, so
this is evidence about numbers, not about speed: what an audited cut of 10% costs is counted here
in work done again, and turned into net speed with the ratios of engine.json beside the output.
The largest one is taught here first (`benchmarks.taught`), unless it stands from before.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders import OURS
from benchmarks.machine import RESULTS, parser, settle, write
from benchmarks.ours import Ours
from benchmarks.rank import Floats, agreement
from benchmarks.trained import Trained, trained
from pilotfish.budget import parse_budget
from pilotfish.config import parse_method
from pilotfish.errors import UsageError
from pilotfish.methods import make
from pilotfish.scoring.audit import cuts_of, remeasure_near_cuts

MAX_LENGTH = 512
ROWS, QUICK_ROWS = 20_000, 300
BUDGET = "10%"


def main() -> None:
    made = parser(__doc__ or "")
    made.add_argument("--rows", type=int)
    options = made.parse_args()
    options.rows = options.rows or (QUICK_ROWS if options.quick else ROWS)
    settle(options)
    ratios = engine_ratios((options.out or RESULTS / "agreement.json").with_name("engine.json"))
    with tempfile.TemporaryDirectory() as folder:
        models = {
            each.name: one_model(each, Path(folder), ratios)
            for each in trained(Path(folder), options.rows, options.seed, quick=options.quick)
        }
    write("agreement", options, {"budget": BUDGET, "ratios": ratios, "models": models})


def engine_ratios(path: Path) -> dict[str, float]:
    """Speed of each precision over one row at a time, with the first model of engine.json."""
    if not path.is_file():
        return {}
    [first, *_] = json.loads(path.read_text(encoding="utf-8"))["models"].values()
    contenders = first["contenders"]
    return {
        precision: contenders[name]["ratio"]["median"]
        for name, precision in OURS.items()
        if name in contenders
    }


def one_model(each: Trained, folder: Path, ratios: dict[str, float]) -> dict[str, Any]:
    """Agreement of every precision with fp32 and what a cut costs, or why there is none."""
    exact, lengths = numbers(each, folder, "fp32")
    found: dict[str, Any] = {}
    for precision in (name for name in OURS.values() if name != "fp32"):
        try:
            fast, _ = numbers(each, folder, precision)
        except UsageError as error:
            found[precision] = {"absent": str(error)}
            continue
        audited = cut(ifd(fast), ifd(exact), lengths)
        net = net_ratio(audited["work_again"], precision, ratios)
        found[precision] = {**agreement(exact, fast), **audited, "net_ratio": net}
    return {"of": each.of, "precisions": found}


def numbers(each: Trained, folder: Path, precision: str) -> tuple[dict[str, Floats], Any]:
    """Mean NLLs of all rows in one precision, and their scored tokens [n].

    Raises UsageError where the machine lacks the precision.
    """
    work = folder / f"{each.name}-{precision}"
    ours = Ours(each.model, each.data, work, precision=precision, max_length=MAX_LENGTH)
    ours.run()
    return ours.numbers(), ours.lengths()


def ifd(found: dict[str, Floats]) -> Floats:
    """[n] as Superfiltering has it."""
    return np.asarray(np.exp(found["prompt"] - found["nothing"]))


def cut(fast: Floats, exact: Floats, lengths: Any) -> dict[str, Any]:
    """Shares re-measured and audited for Superfiltering's 10%, and rows picked otherwise by each.

    The fp32 scores are at hand, so re-measuring is looking them up. `work_again` is the share of
    all scored tokens that re-measured rows hold, which is what they cost.
    """
    ranker = make(parse_method("superfiltering")).ranker()
    cuts = cuts_of(ranker, parse_budget(BUDGET))
    tie = np.arange(len(fast))
    lost = np.isnan(fast) & np.isnan(exact)
    walked = remeasure_near_cuts(fast, tie, lengths, cuts, lambda rows: exact[rows], given_up=lost)
    true = cuts.kept(exact, tie)
    return {
        "remeasured": round(walked.share, 4),
        "audited": round(walked.audit_share, 4),
        "work_again": round(float(lengths[walked.remeasured].sum() / lengths.sum()), 4),
        "swapped_unaudited": int((cuts.kept(fast, tie) & ~true).sum()),
        "swapped_audited": int((walked.kept & ~true).sum()),
        "picked": int(true.sum()),
    }


def net_ratio(again: float, precision: str, ratios: dict[str, float]) -> float | None:
    """Speed over one row at a time with that share of the work done again in fp32."""
    if not {precision, "fp32"} <= ratios.keys():
        return None
    return round(1 / (1 / ratios[precision] + again / ratios["fp32"]), 3)


if __name__ == "__main__":
    main()
