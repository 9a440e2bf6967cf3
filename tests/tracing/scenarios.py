"""`python -m tests.tracing.scenarios`: the counts of `score`, `select` and `run` on tiny models."""

import os
import tempfile
from pathlib import Path

from tests.cli.conftest import pairs, write_jsonl
from tests.tiny.models import tiny_gpt2, tiny_llama
from tests.tracing.tracer import Trace, trace_command


def traces(folder: Path) -> dict[str, Trace]:
    """Run the three commands on 60 rows below `folder`: command name -> what it entered."""
    weak, strong = tiny_gpt2(folder / "weak", seed=1), tiny_llama(folder / "strong", seed=2)
    data = write_jsonl(folder / "rows.jsonl", pairs(60))
    out = str(folder / "run")
    lines = {
        "score": f"score {data} --weak {weak} --method superfiltering --out {out} --quiet",
        "select": f"select {out} --method superfiltering --budget 10% --quiet",
        "run": f"run {data} --weak {weak} --strong {strong} --budget 10% --evidence quick "
        f"--seeds 2 --metric loss --out {out}-whole --quiet",
    }
    return {name: trace_command(line.split()) for name, line in lines.items()}


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as place:
        for name, trace in traces(Path(place)).items():
            print(f"== {name}\n{trace}")
