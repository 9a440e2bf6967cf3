"""export: which rows in which order, what is drawn, what is refused, and what is found again."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilotfish.data import Pool
from pilotfish.data_order import row_name, shuffled
from pilotfish.errors import UsageError
from pilotfish.export.export import ExportOptions
from pilotfish.export.export import export as export_run
from pilotfish.selection.select import SelectConfig, select
from pilotfish.store import Run
from tests.experiments.runs import pool_run, records, scored_run, write

ARMS = ("selected", "random", "length_matched")


def chosen(root: Path, count: int = 40) -> Run:
    run = scored_run(root, count)
    select(str(root), SelectConfig("superfiltering", "10rows"))
    return run


def export(
    root: str, to: str, *, folder: str | None = None, force: bool = False, **options: Any
) -> dict[str, Any]:
    return export_run(root, to, ExportOptions(**options), folder=folder, force=force)


def lines(folder: Path, job: str) -> list[str]:
    return (folder / f"{job}.jsonl").read_text().splitlines()


def kept(run: Run, name: str) -> list[str]:
    return (run.root / f"selections/{name}/selected.jsonl").read_text().splitlines()


def test_rows_come_as_they_are_in_the_order_of_training(tmp_path: Path) -> None:
    run = chosen(tmp_path / "run")
    evidence = export(
        str(run.root), "llamafactory", arms=ARMS, folder=str(tmp_path / "x"), seeds=[2]
    )
    rows = {json.dumps(row): row for row in records(40)}  # the file as it was written
    for arm, selection in zip(ARMS, ("selected", "random-2", "length_matched-2"), strict=True):
        found = lines(tmp_path / "x", f"{arm}-seed-2")
        assert sorted(found) == sorted(kept(run, selection)) and {*found} <= {*rows}
    by_raw = {example.raw: example for example in Pool.open(run.store).examples()}
    picked = [by_raw[line] for line in kept(run, "selected")]
    order = shuffled([row_name(row) for row in picked], seed=2, epoch=0)
    assert lines(tmp_path / "x", "selected-seed-2") == [picked[i].raw for i in order]
    assert [arm["seed"] for arm in evidence["arms"]] == [2, 2, 2]


def test_configs_of_two_arms_differ_in_their_data_alone(tmp_path: Path) -> None:
    run = chosen(tmp_path / "run")
    for target in ("trl", "llamafactory", "axolotl"):
        export(str(run.root), target, arms=ARMS, folder=str(tmp_path / target))
        texts = [(tmp_path / target / f"{arm}-seed-0.yaml").read_text() for arm in ARMS]
        assert len({*texts}) == len(ARMS)
        assert len({t.replace(arm, "ARM") for arm, t in zip(ARMS, texts, strict=True)}) == 1
        readme = (tmp_path / target / "README.md").read_text()
        for arm in ARMS:
            assert f"{arm}-seed-0.yaml" in readme
            assert f"{arm}:0={arm}-seed-0.items.jsonl" in readme


def test_the_settings_are_those_of_the_run(tmp_path: Path) -> None:
    run = chosen(tmp_path / "run")
    train = {"max_steps": 7, "learning_rate": 3e-4, "use_peft": True, "lora_r": 4, "seed": 0}
    del train["seed"]
    run.update(config={"train": train, "strong": "org/large", "seed": 3},
               evidence={"seeds": [0, 1], "steps": 7})  # fmt: skip
    evidence = export(str(run.root), "trl", folder=str(tmp_path / "x"))
    assert [arm["draw"] for arm in evidence["arms"]] == [3000, 3001]  # every seed of the run
    config = yaml.safe_load((tmp_path / "x/selected-seed-1.yaml").read_text())
    names = ("model_name_or_path", "max_steps", "learning_rate", "lora_r", "seed", "max_length")
    assert [config[name] for name in names] == ["org/large", 7, 3e-4, 4, 3001, 1024]
    seeds = [lines(tmp_path / "x", f"selected-seed-{seed}") for seed in (0, 1)]
    assert seeds[0] != seeds[1] and sorted(seeds[0]) == sorted(seeds[1])


def test_evidence_names_what_comes_back(tmp_path: Path) -> None:
    run = chosen(tmp_path / "run")
    export(str(run.root), "jsonl", arms=["selected", "full"], folder=str(tmp_path / "x"))
    evidence = json.loads((tmp_path / "x/evidence.json").read_text())
    assert (
        evidence["selection"]["rows_digest"] == run.section("selections")["selected"]["rows_digest"]
    )
    assert [arm["rows"] for arm in evidence["arms"]] == [10, 40]
    data = (tmp_path / "x/selected-seed-0.jsonl").read_bytes()
    assert evidence["arms"][0]["sha256"] == hashlib.sha256(data).hexdigest()
    assert evidence["test"] is None and not (tmp_path / "x/test.jsonl").exists()


def test_one_seeds_control_can_be_named(tmp_path: Path) -> None:
    run = chosen(tmp_path / "run")
    evidence = export(
        str(run.root), "jsonl", arms=["random-1", "random"], folder=str(tmp_path / "x")
    )
    assert [(arm["arm"], arm["seed"]) for arm in evidence["arms"]] == [("random", 1), ("random", 0)]
    assert {"random-0", "random-1"} <= {*run.section("selections")}


def test_a_selection_of_the_users_own_is_an_arm(tmp_path: Path) -> None:
    run = chosen(tmp_path / "run")
    select(str(run.root), SelectConfig("superfiltering", "4rows", name="mine"))
    evidence = export(str(run.root), "jsonl", arms=["mine"], folder=str(tmp_path / "x"))
    assert evidence["arms"][0]["rows"] == 4
    assert sorted(lines(tmp_path / "x", "mine-seed-0")) == sorted(kept(run, "mine"))


def test_force_replaces_an_export_and_nothing_else(tmp_path: Path) -> None:
    run, target = chosen(tmp_path / "run"), tmp_path / "x"
    export(str(run.root), "jsonl", arms=ARMS, folder=str(target))
    with pytest.raises(UsageError, match="is there already"):
        export(str(run.root), "jsonl", folder=str(target))
    export(str(run.root), "jsonl", folder=str(target), force=True)
    assert sorted(path.name for path in target.iterdir()) == [
        "README.md", "evidence.json", "selected-seed-0.jsonl",
    ]  # fmt: skip
    (tmp_path / "own").mkdir()
    (tmp_path / "own/thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="something else than an export"):
        export(str(run.root), "jsonl", folder=str(tmp_path / "own"), force=True)
    assert (tmp_path / "own/thesis.txt").read_text() == "mine"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"to": "tlr"}, "no target is called 'tlr'; did you mean 'trl'"),
    ({"arms": ["selcted"]}, "no arm is called 'selcted'; did you mean 'selected'"),
    ({"arms": ["base"]}, "nothing is trained for the arm 'base'"),
    ({"arms": ["relabel_all"]}, "answers that the weak model writes"),
    ({"arms": ["trusted"]}, "needs trusted rows"),
    ({"arms": ["full@epochs"]}, "takes another number of steps"),
    ({"arms": ["selected@5pct"]}, "has no selection 'selected@5pct'"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_refusals_are_sentences(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    run = chosen(tmp_path / "run")
    given = {"to": "trl", "arms": ["selected"], "folder": str(tmp_path / "x"), **changes}
    with pytest.raises(UsageError, match=message):
        export(str(run.root), **given)
    assert not (tmp_path / "x").exists()


def test_a_run_without_a_selection_names_the_missing_step(tmp_path: Path) -> None:
    run = pool_run(tmp_path / "run", write(tmp_path / "d.jsonl", records(5)))
    with pytest.raises(UsageError, match="holds no selection yet") as found:
        export(str(run.root), "trl")
    assert "pilotfish select" in str(found.value.hint)
    with pytest.raises(UsageError, match="there is no run"):
        export(str(tmp_path / "none"), "trl")


def test_a_seed_the_weak_model_was_not_tuned_for_is_refused(tmp_path: Path) -> None:
    run = chosen(tmp_path / "run")
    run.update(weak={"trusted": str(tmp_path / "run-data/alpaca.jsonl")}, evidence={"seeds": [0]})
    for arm in ("selected", "random"):
        with pytest.raises(
            UsageError, match="has no seed 4: a tuned weak model selects once per seed"
        ):
            export(str(run.root), "trl", arms=[arm], folder=str(tmp_path / "x"), seeds=[4])


def test_trusted_rows_are_mixed_with_the_others(tmp_path: Path) -> None:
    run = chosen(tmp_path / "run")
    trusted = write(tmp_path / "t.jsonl", records(3, start=900))
    source = {"data": str(tmp_path / "run-data/alpaca.jsonl")}
    run.update(weak={"trusted": str(trusted)}, data=source)
    evidence = export(
        str(run.root), "jsonl", arms=["trusted", "trusted_selected"], folder=str(tmp_path / "x")
    )
    assert [arm["rows"] for arm in evidence["arms"]] == [3, 13]
    both = lines(tmp_path / "x", "trusted_selected-seed-0")
    assert {*both} == {*kept(run, "selected"), *trusted.read_text().splitlines()}
