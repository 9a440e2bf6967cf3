"""lm-evaluation-harness asks the models of a run, offline, by a task file of the test's own."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pilotfish.errors import MissingExtra, UsageError
from pilotfish.experiments.external.lm_eval import LmEvalConfig, evaluate_with_lm_eval
from pilotfish.store import Run
from tests.experiments.worlds import World

needs_lm_eval = pytest.mark.skipif(
    find_spec("lm_eval") is None, reason="lm-eval is absent: pip install 'pilotfish[lm-eval]'"
)


def task(folder: Path, count: int = 12) -> Path:
    """A multiple-choice task of local rows, with two metrics."""
    folder.mkdir()
    rows = [
        {"question": f"say {i}", "choices": [f"apple {i}", "no"], "answer": i % 2}
        for i in range(count)
    ]
    data = folder / "rows.json"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "words.yaml").write_text(
        "task: words\n"
        "dataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {data}}}}}\n"
        "test_split: test\n"
        "output_type: multiple_choice\n"
        'doc_to_text: "{{question}}"\n'
        'doc_to_choice: "{{choices}}"\n'
        'doc_to_target: "{{answer}}"\n'
        "metric_list:\n"
        "  - {metric: acc, aggregation: mean, higher_is_better: true}\n"
        "  - {metric: acc_norm, aggregation: mean, higher_is_better: true}\n"
    )
    return folder


def lines(run: Run, arm: str) -> list[dict[str, Any]]:
    text = (run.root / f"judge/{arm}/seed-0.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.skipif(find_spec("lm_eval") is not None, reason="lm-eval is installed")
def test_without_lm_eval_the_pip_line_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingExtra) as found:
        evaluate_with_lm_eval(str(tmp_path), LmEvalConfig(["words"]))
    assert found.value.hint == "pip install 'pilotfish[lm-eval]'"


@needs_lm_eval
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_model_is_asked_once_and_joined_by_document(world: World, tmp_path: Path) -> None:
    run = world.run()
    own, to = task(tmp_path / "tasks"), tmp_path / "asked"
    config = LmEvalConfig(["words"], "acc", include_path=str(own))
    report = evaluate_with_lm_eval(str(run.root), config, to=str(to))
    assert {arm["name"] for arm in report["arms"]} == {"base", "random", "selected"}
    assert report["verdict"]["metric"] == "acc" and report["verdict"]["outcome"] == "not_tested"
    items = {arm: lines(Run(to), arm) for arm in ("base", "random", "selected")}
    assert [len(each) for each in items.values()] == [12, 12, 12]
    assert items["base"][0]["id"] == "words/0" and items["base"][0]["task"] == "words"
    hashes = [[item["hash"] for item in each] for each in items.values()]
    assert hashes[0] == hashes[1] == hashes[2] and len({*hashes[0]}) == 12
    before = (to / "judge/selected/seed-0.json").stat().st_mtime_ns
    again = evaluate_with_lm_eval(str(run.root), config, to=str(to))
    assert again["verdict"] == report["verdict"]
    assert (to / "judge/selected/seed-0.json").stat().st_mtime_ns == before

    with pytest.raises(UsageError, match="several metrics: acc, acc_norm"):
        evaluate_with_lm_eval(str(run.root), replace(config, metric=None), to=str(tmp_path / "b"))
    with pytest.raises(UsageError, match="knows no task 'wrods'"):
        evaluate_with_lm_eval(
            str(run.root), replace(config, tasks=["wrods"]), to=str(tmp_path / "c")
        )
    few = evaluate_with_lm_eval(str(run.root), replace(config, limit=4), to=str(tmp_path / "few"))
    assert few["arms"][0]["items"] == 4
    assert any("--limit" in text for text in few["warnings"])
