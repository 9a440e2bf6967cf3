"""Real processes: start-up, kill -9 and resume, Ctrl-C, a second planner, gates."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import alpaca, write_jsonl
from tests.cli.test_door import three

ENV = {**os.environ, "HF_HUB_OFFLINE": "1"}


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pilotfish", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def hashes(run: Path) -> dict[str, str]:
    """Every file of a run but the event log (times) and the lock."""
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in ("events.jsonl", "LOCK")
    }


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom pilotfish.cli.main import run\nrun(['--help'])\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pyarrow', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "score" in done.stdout


@pytest.mark.parametrize(
    "ending, code", [("", 0), ("app.app = lambda *_, **__: sys.exit(130)", 130)]
)
def test_one_of_several_does_not_abort_while_python_ends(ending: str, code: int) -> None:
    """As a thread of gloo does that lets go of a tensor too late; exit functions still run."""
    lines = [
        "import atexit, os, sys",
        "from pilotfish.cli import main",
        "import pilotfish.cli.app as app",
        "class Late:",
        "    def __del__(self, abort=os.abort): abort()",
        "late = Late()",
        "atexit.register(os.write, 1, b'put away')",
        "sys.argv = ['pilotfish', '--version']",
        ending,
        "main()",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        capture_output=True, text=True, env={**ENV, "WORLD_SIZE": "2"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.endswith("put away")


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> str:
    rows = [dict(row, output=f"{row['output']} {i}") for i, row in enumerate(alpaca(6000))]
    return write_jsonl(tmp_path_factory.mktemp("big") / "big.jsonl", rows)


def score(data: str, weak: str, run: Path) -> subprocess.Popen[str]:
    return start(
        "score", data, "--weak", weak, "--method", "superfiltering", "--out", run, "--quiet"
    )


def wait_for(path: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    while not list(path.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_kill_9_in_the_middle_redoes_only_what_is_missing(
    tmp_path: Path, big: str, weak: str
) -> None:
    whole = tmp_path / "whole"
    assert finish(score(big, weak, whole))[0] == 0
    cut = tmp_path / "cut"
    victim = score(big, weak, cut)
    wait_for(cut, "signals/*/part-00000.json", victim)
    victim.kill()
    victim.communicate()
    done = list(cut.glob("signals/*/part-*.parquet"))
    stamps = {path: path.stat().st_mtime_ns for path in done}
    finished = {path for path in done if path.with_suffix(".json").exists()}
    assert finish(score(big, weak, cut))[0] == 0
    assert hashes(cut) == hashes(whole)
    assert all(path.stat().st_mtime_ns == stamps[path] for path in finished)


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_is_finished(
    tmp_path: Path, big: str, weak: str, signum: signal.Signals, code: int
) -> None:
    run = tmp_path / "run"
    process = score(big, weak, run)
    wait_for(run, "pool/manifest.json", process)
    process.send_signal(signum)
    got, _, err = finish(process)
    assert got == code and "finished work is kept" in err
    assert not list(run.rglob(".tmp-*"))
    assert finish(score(big, weak, run))[0] == 0


@pytest.mark.slow
def test_a_second_planner_exits_75(tmp_path: Path, big: str, weak: str) -> None:
    run = tmp_path / "run"
    first = score(big, weak, run)
    wait_for(run, "LOCK", first)
    code, _, err = finish(score(big, weak, run))
    first.kill()
    first.communicate()
    assert code == 75 and "another pilotfish process" in err


def test_gates_decide_how_a_real_process_ends(tmp_path: Path) -> None:
    given = three(tmp_path, selected=0.8, random=0.5, length_matched=0.5)
    results = {}
    for name, gate in {
        "pass": "safe(against=random)",
        "fail": "safe(arm=random, against=selected)",
        "inconclusive": "safe(arm=length_matched, against=random)",
    }.items():
        words = ["compare", "--results", *given, "--gate", gate, "--out", tmp_path / name]
        code, out, err = finish(start(*words, "--json"))
        results[name] = code, json.loads(out)["gates"][0]["outcome"], err.strip()
    assert results == {
        "pass": (0, "pass", ""), "fail": (4, "fail", "gate safe: fail"),
        "inconclusive": (5, "inconclusive", "gate safe: inconclusive"),
    }  # fmt: skip
