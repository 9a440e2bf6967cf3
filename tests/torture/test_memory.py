"""R17: ten times the rows, at most 1.2 times the memory, by the peak of real processes."""

import sys
from pathlib import Path

import pytest
from benchmarks.memory import PROMISE, commands, peak, write_rows

from tests.figures import Reached, size

COMMANDS = ("score", "select 10%", "score another", "select tokens")
pytestmark = [pytest.mark.torture, pytest.mark.slow]


def peaks(folder: Path, count: int) -> dict[str, float]:
    """MiB at the peak of each command over `count` tiny rows."""
    folder.mkdir()
    write_rows(folder / "rows.jsonl", count, seed=0)
    lines = commands(folder / "rows.jsonl", folder / "run")
    return {name: peak(lines[name])["peak_mib"] for name in COMMANDS}


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_ten_times_the_rows_take_hardly_more_memory(tmp_path: Path, reached: Reached) -> None:
    few = size(5_000, 10_000)  # enough for the benchmark's budget of 100,000 tokens
    small, large = peaks(tmp_path / "few", few), peaks(tmp_path / "many", 10 * few)
    ratio = {name: large[name] / small[name] for name in small}
    assert max(ratio.values()) <= PROMISE, ratio
    score = max(value for name, value in ratio.items() if name.startswith("score"))
    select = max(value for name, value in ratio.items() if name.startswith("select"))
    reached("R17", f"{few:,} -> {10 * few:,} rows, {len(ratio)} real processes: peak memory of "
            f"score x{score:.2f} at most, of select x{select:.2f}")  # fmt: skip
