"""docs/architecture.md lists the files that a row passes; the tracer says whether it is true."""

from pathlib import Path

import pytest

from tests.tracing.page import PAGE, listed
from tests.tracing.scenarios import traces

# Ceilings; before the rooms were named after the work, the commands entered 87, 39 and 190 files.
MOST = {"score": 60, "select": 30, "run": 140}


@pytest.mark.slow
def test_the_page_lists_the_files_that_each_command_enters(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    found = traces(tmp_path)
    for name, trace in found.items():
        # threads may enter two files in either order, so the order is not compared
        assert sorted(listed(name, page)) == sorted(trace.files), (
            f"run: python -m tests.tracing.page  ({name})"
        )
    assert {
        name: len(trace.files) for name, trace in found.items() if len(trace.files) > MOST[name]
    } == {}
