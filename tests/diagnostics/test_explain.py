"""explain: one sentence with the numbers, for every fate a row can have."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.data import overlap_keys
from pilotfish.diagnostics.explain import explain
from pilotfish.errors import UsageError
from pilotfish.run_context import RunContext
from pilotfish.selection.controls import Control, draw_control
from pilotfish.selection.select import SelectConfig, select
from pilotfish.store import Run
from tests.experiments.runs import decisions, pool_run, records, score_run, scored_run, write
from tests.reading import read_rows

# Ten rows whose scores are easy to rank by eye; row 9 is gated, rows 7 and 8 cannot be scored.
VALUES = [0.1, 0.9, 0.3, 0.7, 0.5, 0.2, 0.8, 0.6, 0.4, 1.25]
REASONS = {7: "empty_response", 8: "prompt_over_limit"}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = scored_run(tmp_path / "run", 10, values=VALUES, reasons=REASONS)
    select(made.root, SelectConfig("superfiltering", "3rows"))
    return made


def sentence(run: Run, row: int, **how: Any) -> str:
    return str(explain(run.root, row=row, **how)["sentence"])


def test_a_kept_row(run: Run) -> None:
    id = decisions(run)["id"][6]
    assert sentence(run, 6) == (
        f"Row 6 of alpaca.jsonl (id {id}) was kept as the 2nd of 3: its superfiltering score 0.8 "
        "ranks 2nd of 7 eligible rows."
    )


def test_a_row_over_budget(run: Run) -> None:
    assert sentence(run, 0).endswith(
        "was dropped: its superfiltering score 0.1 ranks 7th of 7 eligible rows; the budget of "
        "3rows kept the first 3 (cut at 0.7)."
    )


def test_a_gated_row(run: Run) -> None:
    assert sentence(run, 9).endswith(
        "was dropped: its superfiltering score 1.25 is not below the ceiling of 1, where the "
        "prompt stops helping the response."
    )


def test_unscorable_rows(run: Run) -> None:
    assert sentence(run, 7).endswith(
        "was dropped: it has no superfiltering score, because its response is empty "
        "(empty_response); rows without a score are never selected."
    )
    assert "its prompt alone fills the window" in sentence(run, 8)


def test_the_numbers_come_with_the_sentence(run: Run) -> None:
    found = explain(run.root, row=0)
    assert (found["row"], found["kept"], found["rank"]) == (0, False, None)
    assert (found["reason"], found["score"], found["selection"]) == ("over_budget", 0.1, "selected")
    json.dumps(found)
    assert explain(run.root, id=found["id"]) == found


def test_low_and_middle_name_the_end(run: Run) -> None:
    how = {"method": "superfiltering", "budget": "3rows"}
    select(run.root, SelectConfig(direction="low", name="low", **how))
    assert sentence(run, 1, selection="low").endswith(
        "0.9 ranks 7th of 7 eligible rows, lowest first; the budget of 3rows kept the first 3 "
        "(cut at 0.3)."
    )
    select(run.root, SelectConfig(direction="middle", name="mid", **how))
    assert sentence(run, 1, selection="mid").endswith(
        "0.9 ranks 1st of 7 eligible rows, highest first; the budget of 3rows kept the 3 around "
        "the median (from 0.3 to 0.7)."
    )


def test_a_tie_at_the_cut_is_reported(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run", 4, values=[0.5] * 4)
    made = select(run.root, SelectConfig("superfiltering", "2rows"))
    row = next(i for i in range(4) if i not in made.order)
    assert sentence(run, row).endswith(
        "0.5 ranks 1st of 4 eligible rows; the budget of 2rows kept the first 2 (cut at 0.5; "
        "ties are broken by content hash)."
    )


def test_rows_of_controls(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run", 60)
    chosen = select(run.root, SelectConfig("superfiltering", "10rows")).order
    drawn = draw_control(RunContext(run), Control("random")).order
    assert "was kept as the 1st of 10: its draw" in sentence(run, drawn[0], selection="random-0")
    matched = draw_control(RunContext(run), Control("length_matched")).order
    assert "one of the rows of 'selected'" in sentence(run, chosen[0], selection="length_matched-0")
    left = np.setdiff1d(np.arange(60), [*chosen, *matched])[0]
    assert "already gave as many rows as 'selected' holds there (10 rows in all)" in sentence(
        run, left, selection="length_matched-0"
    )


def test_rows_that_never_reached_the_pool(tmp_path: Path) -> None:
    data = write(tmp_path / "x.jsonl", records(20))
    data.write_text(data.read_text() + '{"instruction": "broken", "output"\n')
    test = read_rows(write(tmp_path / "test.jsonl", records(1, start=4))).examples
    run = pool_run(tmp_path / "run", data, exclude=overlap_keys(test), max_bad_rate=0.2)
    score_run(run)
    select(run.root, SelectConfig("superfiltering", "10%"))
    dropped = explain(run.root, row=4)
    assert (
        "was dropped before anything was measured: it is also in the test data"
        in (dropped["sentence"])
    )
    assert explain(run.root, id=dropped["id"])["sentence"] == dropped["sentence"]
    found = explain(run.root, row=20)
    assert found["sentence"].startswith("Row 20 of x.jsonl was quarantined when it was read: ")
    assert found["reason"] in found["sentence"] and "broken" in found["sentence"]
    assert not dropped["kept"] and not found["kept"]


def test_a_row_number_in_several_sources_needs_the_source(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write(folder / "a.jsonl", records(9))
    write(folder / "b.jsonl", records(9, start=9))
    run = score_run(pool_run(tmp_path / "run", folder))
    select(run.root, SelectConfig("superfiltering", "2rows"))
    with pytest.raises(UsageError, match="row 3 is in several sources") as caught:
        explain(run.root, row=3)
    assert str(caught.value.hint) == "add --source: a.jsonl, b.jsonl"
    assert "Row 3 of b.jsonl" in sentence(run, 3, source="b.jsonl")
    with pytest.raises(UsageError, match=r"has no row 3 of c\.jsonl"):
        explain(run.root, row=3, source="c.jsonl")


def test_what_cannot_be_explained_is_refused_in_words(run: Run, tmp_path: Path) -> None:
    for how in ({}, {"id": "x", "row": 3}):
        with pytest.raises(UsageError, match="name one row"):
            explain(run.root, **how)
    with pytest.raises(UsageError, match="has no id 'none'"):
        explain(run.root, id="none")
    with pytest.raises(UsageError, match=r"no selection 'other' .*selected"):
        explain(run.root, row=1, selection="other")
    with pytest.raises(UsageError, match="there is no run at"):
        explain(tmp_path / "nowhere", row=1)
