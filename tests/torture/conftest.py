"""Models and jobs that all sweeps share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny.models import tiny_gpt2, tiny_llama
from tests.torture.doubles import forked
from tests.torture.jobs import Jobs, copy, files, jobs_in

Whole = dict[str, dict[str, str]]


@pytest.fixture(scope="package")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    """Data of three shards, a weak and a strong model."""
    folder = tmp_path_factory.mktemp("jobs")
    weak, strong = tiny_gpt2(folder / "weak", seed=1), tiny_llama(folder / "strong", seed=2)
    with pytest.MonkeyPatch.context() as patch:
        found = jobs_in(folder, patch, str(weak), str(strong))
        # once in this very process: copies of it have every library loaded then
        found.select(folder / "warm")
        found.train(folder / "warm")
        yield found


@pytest.fixture(scope="package")
def selected(jobs: Jobs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was scored and selected without a disturbance."""
    run = tmp_path_factory.mktemp("selected") / "run"
    assert forked(lambda: jobs.select(run)) == 0
    return run


@pytest.fixture(scope="package")
def whole(jobs: Jobs, selected: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """What each job leaves that nobody disturbed."""
    run = copy(selected, tmp_path_factory.mktemp("trained") / "run")
    assert forked(lambda: jobs.train(run)) == 0
    return {"select": files(selected), "train": files(run)}
