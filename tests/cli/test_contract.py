"""The contract other people's scripts rely on: files, columns, exit codes, one JSON object."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import Command, alpaca, pairs, write_jsonl


@pytest.fixture
def scored(tmp_path: Path, weak: str, pilotfish: Command) -> Path:
    data = write_jsonl(tmp_path / "alpaca.jsonl", alpaca(60))
    run = tmp_path / "run"
    code, _, err = pilotfish(
        "score", data, "--weak", weak, "--method", "superfiltering,ifd", "--out", run, "--quiet"
    )
    assert code == 0, err
    return run


def test_scores_hold_a_value_or_a_status_and_a_reason(
    tmp_path: Path, weak: str, pilotfish: Command
) -> None:
    rows = [*alpaca(6), {"instruction": "x", "input": "", "output": ""}]
    rows.append({"instruction": "y" * 400, "input": "", "output": "too far away"})
    rows.append({"instruction": "z", "input": "", "output": "k"})
    data = write_jsonl(tmp_path / "a.jsonl", rows)
    code, out, _ = pilotfish(
        "score", data, "--weak", weak, "--method", "superfiltering", "--max-length", 1024,
        "--out", tmp_path / "run", "--json", "--quiet",
    )  # fmt: skip
    assert code == 0
    assert json.loads(out)["scores"]["superfiltering"]["scorable"] == 6
    table = pq.read_table(tmp_path / "run" / "scores.parquet")
    assert table.column_names == [
        "id", "source", "row", "n_prompt_tokens", "n_response_tokens", "truncated",
        "superfiltering", "superfiltering_status", "superfiltering_reason",
    ]  # fmt: skip
    last = table.slice(6).to_pydict()
    assert last["superfiltering"] == [None, None, None]
    assert last["superfiltering_status"] == ["unscorable"] * 3
    assert last["superfiltering_reason"][:2] == ["empty_response", "prompt_over_limit"]
    assert table.column("superfiltering_reason").to_pylist()[:6] == [None] * 6
    assert table.column("row").to_pylist() == list(range(9))


def test_select_delivers_exactly_the_budget(scored: Path, pilotfish: Command) -> None:
    code, out, _ = pilotfish(
        "select", scored, "--method", "superfiltering", "--budget", "10%", "--json"
    )
    assert code == 0
    assert json.loads(out)["delivered"] == 6
    decisions = pq.read_table(scored / "selections/selected/decisions.parquet").to_pydict()
    assert sum(decisions["kept"]) == 6 and len(decisions["id"]) == 60
    kept = [s for s, k in zip(decisions["score"], decisions["kept"], strict=True) if k]
    assert all(np.isfinite(kept)) and max(kept) < 1
    lines = (scored / "selections/selected/selected.jsonl").read_text().splitlines()
    assert len(lines) == 6 and all(
        set(json.loads(x)) == {"instruction", "input", "output"} for x in lines
    )
    code, out, _ = pilotfish("explain", scored, "--row", 0)
    assert code == 0 and "alpaca.jsonl" in out


def test_a_budget_that_cannot_be_met_names_both_numbers(scored: Path, pilotfish: Command) -> None:
    code, _, err = pilotfish("select", scored, "--method", "superfiltering", "--budget", "61rows")
    assert code == 2 and "61" in err


def test_adding_a_score_keeps_the_first_and_refuses_another_key(
    scored: Path, weak: str, strong: str, pilotfish: Command
) -> None:
    before = pq.read_table(scored / "scores.parquet").column("ifd").to_pylist()
    code, _, err = pilotfish(
        "score", scored, "--weak", weak, "--method", "perplexity(direction=low)", "--quiet"
    )
    assert code == 0, err
    table = pq.read_table(scored / "scores.parquet")
    assert table.column("ifd").to_pylist() == before
    assert "perplexity(direction=low)" in table.column_names
    code, _, err = pilotfish("score", scored, "--weak", strong, "--method", "ifd", "--quiet")
    assert code == 2 and "weak" in err
    code, _, err = pilotfish(
        "score", scored, "--weak", strong, "--method", "ifd", "--as", "ifd-strong", "--quiet"
    )
    assert code == 0, err
    assert "ifd-strong" in pq.read_table(scored / "scores.parquet").column_names


def test_other_data_in_the_same_run_is_refused(
    scored: Path, tmp_path: Path, weak: str, pilotfish: Command
) -> None:
    data = write_jsonl(tmp_path / "other.jsonl", pairs(9))
    code, _, err = pilotfish(
        "score", data, "--weak", weak, "--method", "ifd", "--out", scored, "--quiet"
    )
    assert code == 2 and "data" in err and "--out" in err


def test_steps_in_the_wrong_order_name_the_missing_one(
    tmp_path: Path, scored: Path, strong: str, pilotfish: Command
) -> None:
    code, _, err = pilotfish("train", scored, "--strong", strong)
    assert code == 2 and "pilotfish select" in err
    code, _, err = pilotfish(
        "evaluate", scored, "--test", write_jsonl(tmp_path / "t.jsonl", alpaca(4))
    )
    assert code == 2 and "pilotfish train" in err
    code, _, err = pilotfish("select", tmp_path / "nowhere", "--method", "ifd", "--budget", "10%")
    assert code == 2 and "pilotfish score" in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["select"], 2, "missing"),
        (["nonsense"], 2, "no such command"),
        (
            ["score", "absent.jsonl", "--weak", "w", "--method", "ifd", "--out", "r"],
            2,
            "absent.jsonl",
        ),
        (["methods", "superfilterin"], 2, "superfiltering"),
        (["run", "x.jsonl"], 2, "--weak"),
        (["run", "absent.yaml"], 2, "absent.yaml"),
        (["verify", "."], 2, "run.json"),
    ],
)
def test_mistakes_meet_a_sentence_and_json_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pilotfish: Command,
    arguments: list[str], code: int, words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    got, out, err = pilotfish(*arguments)
    assert (got, out) == (code, "") and words in err.lower()
    got, out, _ = pilotfish(*arguments, "--json")
    found = json.loads(out)
    assert got == found["exit"] == code and set(found) == {"error", "exit", "hint"}


def test_broken_lines_end_in_quarantine_and_the_limit_is_exit_3(
    tmp_path: Path, weak: str, pilotfish: Command
) -> None:
    path = tmp_path / "broken.jsonl"
    write_jsonl(path, alpaca(50))
    with path.open("ab") as handle:
        handle.write(
            b'{"instruction": "a", "input": "", "output": 3}\n{"instruction": NaN}\n\xff\xfe\n'
        )
    arguments = ["score", path, "--weak", weak, "--method", "ifd", "--quiet"]
    code, _, err = pilotfish(*arguments, "--out", tmp_path / "strict")
    assert code == 3 and "3" in err
    code, _, err = pilotfish(*arguments, "--out", tmp_path / "loose", "--max-bad-rate", 0.1)
    assert code == 0, err
    lines = (tmp_path / "loose/pool/quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in lines] == [
        "wrong_type",
        "nonfinite_number",
        "invalid_utf8",
    ]
    assert len(pq.read_table(tmp_path / "loose/scores.parquet")) == 50


def test_the_same_set_whatever_the_order_of_the_file(
    tmp_path: Path, weak: str, pilotfish: Command
) -> None:
    rows = [*alpaca(40), {"instruction": "x", "input": "", "output": ""}]
    kept: list[set[str]] = []
    for turn, order in enumerate((rows, rows[::-1], rows[7:] + rows[:7])):
        data = write_jsonl(tmp_path / f"{turn}.jsonl", order)
        run = tmp_path / f"run-{turn}"
        pilotfish("score", data, "--weak", weak, "--method", "ifd", "--out", run, "--quiet")
        code, _, err = pilotfish(
            "select", run, "--method", "ifd", "--budget", "9rows", "--allow-short"
        )
        assert code == 0, err
        kept.append(set((run / "selections/selected/selected.jsonl").read_text().splitlines()))
    assert kept[0] == kept[1] == kept[2]


def experiment(tmp_path: Path, weak: str, strong: str) -> list[Any]:
    write_jsonl(tmp_path / "pool.jsonl", pairs(60))
    write_jsonl(tmp_path / "trusted.jsonl", pairs(20, start=100))
    write_jsonl(tmp_path / "test.jsonl", [*pairs(12, start=200), *pairs(2)])
    return [
        "run", tmp_path / "pool.jsonl", "--weak", weak, "--strong", strong, "--budget", "30%",
        "--method", "perplexity(direction=low)", "--trusted", tmp_path / "trusted.jsonl",
        "--test", tmp_path / "test.jsonl", "--metric", "exact_match", "--out", tmp_path / "run",
        "--set", "train.max_steps=2", "--set", "weak_train.learning_rate=1.0e-3", "--quiet",
    ]  # fmt: skip


ARMS = {
    "base", "weak", "random", "length_matched", "longest", "full", "selected", "relabel_all",
    "trusted", "trusted_random", "trusted_full", "trusted_selected",
}  # fmt: skip


def test_run_at_full_evidence_writes_the_report_of_the_contract(
    tmp_path: Path, weak: str, strong: str, pilotfish: Command
) -> None:
    arguments = experiment(tmp_path, weak, strong)
    code, out, err = pilotfish(*arguments, "--seeds", 3, "--evidence", "full", "--json")
    assert code == 0, err
    assert json.loads(out)["verdict"]["against"] == "random"
    report = json.loads((tmp_path / "run/report.json").read_text())
    verdict = report["verdict"]
    assert set(verdict) >= {
        "outcome", "against", "metric", "difference", "low", "high", "margin", "sentence",
    }  # fmt: skip
    assert verdict["outcome"] in {"better", "equivalent", "worse", "undecided"}
    arms = {arm["name"]: arm for arm in report["arms"]}
    assert set(arms) == ARMS
    assert arms["selected"]["seeds"] == [0, 1, 2] and arms["selected"]["rows"] == 17
    trained = [arm for arm in arms.values() if arm["name"] not in ("base", "weak")]
    assert {arm["steps"] for arm in trained} == {2}
    assert report["ledger"] and report["provenance"]
    # two pool rows also stand in the test data: dropped, counted, named
    manifest = json.loads((tmp_path / "run/run.json").read_text())
    assert manifest["pool"]["rows"] == 58 and manifest["pool"]["dropped"] == 2
    for seed in range(3):
        items = (tmp_path / f"run/judge/selected/seed-{seed}.jsonl").read_text().splitlines()
        assert len(items) == 14
        assert set(json.loads(items[0])) == {"id", "metric", "value", "output", "expected", "hash"}
    page = (tmp_path / "run/report.html").read_text()
    assert "<script" not in page and "Content-Security-Policy" in page
    assert pilotfish("verify", tmp_path / "run")[0] == 0
    victim = tmp_path / "run/scores.parquet"
    data = bytearray(victim.read_bytes())
    data[40] ^= 4
    victim.write_bytes(data)
    code, _, err = pilotfish("verify", tmp_path / "run")
    assert code == 6 and "scores.parquet" in err


def test_quick_evidence_is_an_indication_and_a_rerun_does_nothing_again(
    tmp_path: Path, weak: str, strong: str, pilotfish: Command
) -> None:
    arguments = experiment(tmp_path, weak, strong)
    code, _, err = pilotfish(*arguments)
    assert code == 0, err
    report = (tmp_path / "run/report.json").read_bytes()
    assert json.loads(report)["verdict"]["outcome"] == "not_tested"
    assert {arm["name"] for arm in json.loads(report)["arms"]} == {"base", "random", "selected"}
    models = sorted((tmp_path / "run/train").rglob("model.safetensors"))
    stamps = [model.stat().st_mtime_ns for model in models]
    assert len(models) == 4
    code, _, err = pilotfish(*arguments)
    assert code == 0, err
    assert [model.stat().st_mtime_ns for model in models] == stamps
    # one lost model is trained again, to the same bytes
    weights = models[0].read_bytes()
    shutil.rmtree(models[0].parent)
    assert pilotfish(*arguments)[0] == 0
    assert models[0].read_bytes() == weights


def test_the_steps_one_at_a_time(
    scored: Path, tmp_path: Path, strong: str, pilotfish: Command
) -> None:
    test = write_jsonl(
        tmp_path / "t.jsonl", [{"instruction": "q", "input": "", "output": "a b"}] * 3
    )
    pilotfish("select", scored, "--method", "ifd", "--budget", "12rows", "--allow-short")
    code, out, err = pilotfish(
        "train", scored, "--strong", strong, "--arm", "selected,full", "--set", "train.max_steps=2",
        "--json", "--quiet",
    )  # fmt: skip
    assert code == 0, err
    assert [(m["arm"], m["steps"]) for m in json.loads(out)["models"]] == [
        ("selected", 2),
        ("full", 2),
    ]
    code, out, err = pilotfish(
        "evaluate", scored, "--test", test, "--metric", "loss", "--json", "--quiet"
    )
    assert code == 0, err
    assert {arm["name"] for arm in json.loads(out)["arms"]} == {"selected", "full"}
    code, out, err = pilotfish("report", scored)
    assert code == 0 and "report.html" in out


def test_methods_lists_every_method_with_its_formula_and_citation(pilotfish: Command) -> None:
    code, out, _ = pilotfish("methods")
    names = ["ifd", "longest", "perplexity", "random", "superfiltering"]
    found = [line.partition(":")[0] for line in out.splitlines() if not line.startswith(" ")]
    assert code == 0 and found == names
    code, out, _ = pilotfish("methods", "superfiltering")
    assert code == 0 and "exp(L_c - L_a)" in out and "2402.00530" in out and "random" not in out
    code, out, _ = pilotfish("methods", "--json")
    assert code == 0 and [entry["name"] for entry in json.loads(out)["methods"]] == names


def test_kd_across_tokenizers_is_refused_before_anything_is_spent(
    tmp_path: Path, weak: str, pilotfish: Command
) -> None:
    from tests.tiny.models import tiny_llama

    other = str(tiny_llama(tmp_path / "other", bos=True))
    data = write_jsonl(tmp_path / "pool.jsonl", pairs(40))
    code, _, err = pilotfish(
        "run", data, "--weak", weak, "--strong", other, "--out", tmp_path / "run", "--quiet",
        "--set", "losses.selected_kd=mix(lm=0.7, kd=0.3)",
    )  # fmt: skip
    assert code == 2 and "one tokenizer" in err and "--loss lm" in err
    assert not (tmp_path / "run/signals").exists()


def test_score_takes_settings_of_tuning_and_refuses_others(
    tmp_path: Path, weak: str, pilotfish: Command
) -> None:
    data = write_jsonl(tmp_path / "pool.jsonl", pairs(12))
    trusted = write_jsonl(tmp_path / "trusted.jsonl", pairs(10, start=50))
    arguments = ["score", data, "--weak", weak, "--method", "ifd", "--trusted", trusted, "--quiet"]
    code, _, err = pilotfish(
        *arguments, "--out", tmp_path / "a", "--set", "weak_train.learning_rate=1.0e-3"
    )
    assert code == 0, err
    found = json.loads((tmp_path / "a/weak/manifest.json").read_text())
    assert found["learning_rates_tried"] == [1e-3]
    code, _, err = pilotfish(*arguments, "--out", tmp_path / "b", "--set", "train.max_steps=1")
    assert code == 2 and "weak_train." in err


def test_judge_reads_at_most_the_limit_of_test_rows(
    scored: Path, tmp_path: Path, strong: str, pilotfish: Command
) -> None:
    test = write_jsonl(tmp_path / "t.jsonl", alpaca(9))
    pilotfish("select", scored, "--method", "ifd", "--budget", "5rows", "--allow-short")
    pilotfish("train", scored, "--strong", strong, "--set", "train.max_steps=1", "--quiet")
    code, _, err = pilotfish("evaluate", scored, "--test", test, "--limit", 4, "--metric", "loss")
    assert code == 0, err
    assert len((scored / "judge/selected/seed-0.jsonl").read_text().splitlines()) == 4
