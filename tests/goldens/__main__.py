"""Write the golden files: `python -m tests.goldens`, after raising a format number.

A file whose numbers changed while its format number did not is left as it is: raise the number
first. New cases (another signal) may be added under the same number.
"""

import os

from tests.goldens.compare import Golden, differences


def update(golden: Golden) -> str:
    """Write one golden file and say what was done; exit where its number was not raised."""
    cases, known = dict(golden.compute()), golden.read()
    old = known.get("cases", {})
    changed = differences(old, cases)
    if changed and known["format"] == golden.format:
        raise SystemExit(
            f"{golden.path.name}: numbers changed but {golden.constant} is still {golden.format}: "
            "raise it, then run this again\n  " + "\n  ".join(changed[:20])
        )
    skipped = [name for name, facts in cases.items() if facts is None]
    if changed and skipped:
        raise SystemExit(
            f"{golden.path.name}: this machine cannot compute {', '.join(skipped)}: "
            "run this on a CPU with int8 dot products"
        )
    if known.get("format") == golden.format:
        cases |= {name: old[name] for name in old}  # numbers stay those of the first machine
    golden.write({name: facts for name, facts in cases.items() if facts is not None})
    return f"{golden.path.name}: {len(cases)} cases of format {golden.format}"


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from tests.goldens.tables import GOLDENS

    for each in GOLDENS.values():
        print(update(each))
