"""`python -m tests.tracing [--write FILE] score ...`: a pilotfish command, and what it entered."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pilotfish
from tests.tracing.tracer import Tracer

if __name__ == "__main__":
    words = sys.argv[1:]
    out = words[1] if words[:1] == ["--write"] else None
    words = words[2:] if out else words
    sys.argv = ["pilotfish", *words]
    with Tracer(Path(pilotfish.__file__).parent) as tracer:
        from pilotfish.cli.main import run

        code = run(words)
    trace = tracer.trace
    if out:
        Path(out).write_text(json.dumps(asdict(trace)))
    else:
        print(trace)
    sys.exit(code)
