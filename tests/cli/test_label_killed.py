"""A labelling that is killed goes on where it was, and ends with the same bytes."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pilotfish.demo.models import shipped
from tests.cli.conftest import write_jsonl
from tests.cli.test_process import finish, hashes, start

WEAK = str(shipped("weak"))


def label(data: str, run: Path) -> subprocess.Popen[str]:
    return start("label", data, "--weak", WEAK, "--kind", "soft", "--out", run, "--quiet")


@pytest.mark.slow
def test_killed_between_shards_only_the_missing_ones_are_labelled_again(tmp_path: Path) -> None:
    rows = [{"text": f"row {i}", "label": str(i % 2)} for i in range(9000)]
    data = write_jsonl(tmp_path / "rows.jsonl", rows)
    code, _, err = finish(label(data, tmp_path / "whole"))
    assert code == 0, err

    run = tmp_path / "run"
    process = label(data, run)
    parts: list[Path] = []
    while not parts and process.poll() is None:
        parts = sorted(run.glob("labels/raw/*/part-*.json"))
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    parts = sorted(run.glob("labels/raw/*/part-*.json"))
    assert 1 <= len(parts) < 5 and not (run / "labels/soft.json").exists()
    made = parts[0].stat().st_mtime_ns
    code, _, err = finish(label(data, run))
    assert code == 0, err
    assert parts[0].stat().st_mtime_ns == made
    assert hashes(run) == hashes(tmp_path / "whole")
