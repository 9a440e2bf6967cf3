"""export, evaluate --model, compare --results on the command line: words, JSON, exit codes."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command, pairs, write_jsonl
from tests.experiments.runs import scored_run


def items(folder: Path, arm: str, seed: int, share: float, count: int = 60) -> str:
    drawn = random.Random(f"{arm}{seed}")
    path = folder / f"{arm}{seed}.jsonl"
    rows = [
        {"id": f"q{i}", "metric": "exact_match", "value": int(drawn.random() < share)}
        for i in range(count)
    ]
    return f"{arm}:{seed}={write_jsonl(path, rows)}"


def three(folder: Path, **shares: float) -> list[str]:
    return [items(folder, arm, s, share) for arm, share in shares.items() for s in range(3)]


def test_export_prints_what_it_wrote_and_what_comes_next(
    tmp_path: Path, pilotfish: Command
) -> None:
    run = str(scored_run(tmp_path / "run", 30).root)
    assert pilotfish("select", run, "--method", "superfiltering", "--budget", "5rows")[0] == 0
    code, out, _ = pilotfish("export", run, "--to", "axolotl", "--arms", "selected,random")
    assert code == 0
    assert out.splitlines() == [
        "selected-seed-0.jsonl: 5 rows of selected, seed 0",
        "random-seed-0.jsonl: 5 rows of random, seed 0",
        f"next: {run}/exports/axolotl/README.md",
    ]
    code, out, err = pilotfish("export", run, "--to", "axolotl", "--json", "--quiet")
    assert code == 2 and json.loads(out)["exit"] == 2 and "is there already" in err
    x, lm = tmp_path / "x", ("--set", "train.loss=mix(lm=0.7, kd=0.3)")
    code, out, err = pilotfish("export", run, "--to", "trl", "--out", x, "--json", *lm)
    assert code == 0 and json.loads(out)["folder"] == str(x)
    assert "the loss mix(lm=0.7, kd=0.3), the exported settings with lm" in err
    code, _, err = pilotfish("export", run, "--to", "trl", "--out", tmp_path / "y", "--seed", "a")
    assert code == 2 and "'a' is no whole number" in err
    assert pilotfish("verify", run)[0] == 0


def test_compare_prints_the_verdict_and_leaves_by_the_gates(
    tmp_path: Path, pilotfish: Command
) -> None:
    given = three(tmp_path, selected=0.8, random=0.5, length_matched=0.5)
    code, out, _ = pilotfish("compare", "--results", *given)
    assert code == 0 and out.startswith("Selected rows beat an equal number of random rows, ")
    found_errors: dict[str, tuple[int, str]] = {}
    for name, gate in {
        "pass": "safe(against=random)",
        "fail": "safe(arm=random, against=selected)",
        "inconclusive": "safe(arm=length_matched, against=random)",
    }.items():
        code, out, err = pilotfish(
            "compare", "--results", *given, "--gate", gate, "--out", tmp_path / name, "--json"
        )
        report = json.loads(out)  # one object, whatever the exit code
        assert report["gates"][0]["outcome"] == name
        assert (tmp_path / name / "report.html").is_file()  # written before the command leaves
        found_errors[name] = (code, err.strip())
    assert found_errors == {
        "pass": (0, ""), "fail": (4, "gate safe: fail"),
        "inconclusive": (5, "gate safe: inconclusive"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "nothing was named"),
        (["runs/a"], 2, "'runs/a' alone is nothing to compare"),
        (["runs/a", "runs/b"], 2, "there is no run at runs/a"),
        (["--results", "selected=x.jsonl"], 2, "cannot read the result 'selected=x.jsonl'"),
        (["--results", "selected:0=none.jsonl"], 2, "there is no file none.jsonl"),
    ],
)
def test_what_cannot_be_compared_ends_in_words(
    pilotfish: Command, arguments: list[str], code: int, message: str
) -> None:
    found, out, err = pilotfish("compare", *arguments, "--json")
    assert (found, json.loads(out)["exit"]) == (code, code) and message in err


def test_items_of_other_rows_end_with_exit_3(tmp_path: Path, pilotfish: Command) -> None:
    given = [items(tmp_path, "selected", 0, 0.8), items(tmp_path, "random", 0, 0.5, count=50)]
    code, _, err = pilotfish("compare", "--results", *given)
    assert code == 3 and "random seed 0 was not judged on 10 of the 60 items" in err


@pytest.fixture
def judged(tmp_path: Path, pilotfish: Command, weak: str, strong: str) -> Path:
    """A run with one trained model and test rows."""
    recipe: dict[str, Any] = {
        "data": write_jsonl(tmp_path / "d.jsonl", pairs(16)), "weak": weak, "strong": strong,
        "test": write_jsonl(tmp_path / "t.jsonl", pairs(4, start=500)), "metric": "loss",
        "budget": "4rows", "evidence": "none", "method": "perplexity(direction=low)",
        "train": {"max_steps": 1, "use_peft": False, "max_length": 64},
    }  # fmt: skip
    path = tmp_path / "r.yaml"
    path.write_text(json.dumps(recipe))
    assert pilotfish("run", path, "--out", tmp_path / "run", "--quiet")[0] == 0
    return tmp_path / "run"


def test_a_model_from_elsewhere_is_judged_into_a_file(
    judged: Path, tmp_path: Path, pilotfish: Command, strong: str
) -> None:
    model, file = judged / "train/selected/seed-0", tmp_path / "i/selected.jsonl"
    code, out, _ = pilotfish("evaluate", judged, "--model", model, "--items", file)
    assert code == 0 and out.splitlines()[0].startswith(f"{model}: loss ")
    assert file.read_text() == (judged / "judge/selected/seed-0.jsonl").read_text()
    assert "is there already" in pilotfish("evaluate", judged, "--model", model, "--items", file)[2]
    assert "none was named" in pilotfish("evaluate", judged, "--model", strong)[2]

    export = json.loads(pilotfish("export", judged, "--to", "jsonl", "--json")[1])
    test = json.loads(Path(judged, "run.json").read_text())["test"]
    assert export["test"] == {key: test[key] for key in ("fingerprint", "rows", "metric")}
    questions = [
        json.loads(x) for x in (judged / "exports/jsonl/test.jsonl").read_text().splitlines()
    ]
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for question, line in zip(questions, lines, strict=True):
        assert (question["id"], question["hash"]) == (line["id"], line["hash"])
        assert question["messages"][-1]["role"] == "user" and question["expected"]


def test_an_adapter_is_judged_on_the_model_it_was_made_for(
    judged: Path, tmp_path: Path, pilotfish: Command, strong: str
) -> None:
    from peft import LoraConfig, get_peft_model

    from pilotfish.models import load

    lora = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", init_lora_weights=False)
    get_peft_model(load(strong).model, lora).save_pretrained(tmp_path / "lora")
    means = {}
    for model in (strong, tmp_path / "lora"):
        code, out, err = pilotfish(
            "evaluate",
            judged,
            "--model",
            model,
            "--items",
            tmp_path / "i.jsonl",
            "--force",
            "--json",
        )
        assert code == 0, err
        means[str(model)] = json.loads(out)["mean"]
    assert len({*means.values()}) == 2
    (tmp_path / "lora/adapter_model.safetensors").unlink()
    code, _, err = pilotfish(
        "evaluate", judged, "--model", tmp_path / "lora", "--items", tmp_path / "j.jsonl"
    )
    assert code == 2 and "is an adapter without adapter_model.safetensors" in err
