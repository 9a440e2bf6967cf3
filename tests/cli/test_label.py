"""`pilotfish label` as a user meets it: files, JSON, exit codes, sentences."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pilotfish.demo.models import shipped
from tests.cli.conftest import Command, write_jsonl

WEAK = str(shipped("weak"))
WORDS = ("abc", "river", "ab", "lemon", "stone", "zz")


@pytest.fixture
def data(tmp_path: Path) -> str:
    rows = [{"prompt": f"reverse: {word}", "completion": word[::-1]} for word in WORDS]
    return write_jsonl(tmp_path / "rows.jsonl", rows)


def test_label_writes_a_table_and_rows_and_says_what_it_did(
    data: str, tmp_path: Path, pilotfish: Command
) -> None:
    call = ("label", data, "--weak", WEAK, "--out", tmp_path / "run", "--max-new-tokens", 8)
    code, out, err = pilotfish(*call)
    assert code == 0, err
    assert "hard: 6 rows labelled hard: ok" in out and "agreement with the rows' own" in out
    assert "next" in out or "rows to learn from" in out
    assert "pool: 6 rows" in err
    code, out, err = pilotfish(*call, "--json", "--quiet")
    told = json.loads(out)
    assert (code, err) == (0, "") and told["counts"]["ok"] + told["counts"]["failed"] == 6
    table = pq.read_table(tmp_path / "run" / told["table"])
    assert table.num_rows == 6
    rows = (tmp_path / "run" / told["labelled"]).read_text().splitlines()
    assert len(rows) == told["counts"]["ok"]
    assert set(json.loads(rows[0])) == {
        "prompt", "completion", "label_by", "label_confidence", "label_status", "label_round",
    }  # fmt: skip
    code, out, _ = pilotfish("verify", tmp_path / "run")
    assert code == 0, out


def test_a_tsv_without_quoting_is_labelled_by_class_with_limit_and_map(
    tmp_path: Path, pilotfish: Command
) -> None:
    lines = ["sentence\tlabel", 'a "quoted start\t1', "so dull\t0", "fine\t1", "bad\t0"]
    data = tmp_path / "reviews.tsv"
    data.write_text("".join(f"{line}\n" for line in lines))
    code, out, err = pilotfish(
        "label", data, "--map", "text=sentence", "--weak", WEAK, "--kind", "soft", "--limit", 3,
        "--out", tmp_path / "run", "--json", "--quiet",
    )  # fmt: skip
    assert code == 0, err
    told = json.loads(out)
    assert told["classes"] == ["0", "1"] and told["rows"] == 3
    rows = (tmp_path / "run" / told["labelled"]).read_text().splitlines()
    first = json.loads(rows[0])
    assert first["sentence"] == 'a "quoted start' and first["label"] in ("0", "1")
    assert sum(first["label_probs"].values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("extra", "code", "words"),
    [
        (("--kind", "fuzzy"), 2, "fuzzy"),
        (("--filter", "confidense"), 2, "did you mean 'confidence'"),
        (("--filter", "trust"), 2, "trust"),
        (("--folds", 1), 2, "folds"),
        (("--kind", "soft"), 0, ""),
        (("--kind", "consistency", "--temperature", 0), 2, "--temperature"),
        (("--kind", "consistency", "--classes", "a,b"), 2, "--classes"),
        (("--refill", WEAK, "--refill-rule", "refil"), 2, "did you mean 'refill'"),
        (("--refill", WEAK, "--refill-rule", "refill(quta=1)"), 2, "did you mean 'quota'"),
        (("--set", "lr=3"), 2, "--set"),
        (("--as", "seed-1"), 2, "seed-1"),
        (("--weak", "./nowhere"), 2, "nowhere"),
        (("--map", "prompt=nope"), 2, "nope"),
    ],
)
def test_mistakes_end_with_a_sentence_and_the_contracts_code(
    extra: tuple[object, ...], code: int, words: str, data: str, tmp_path: Path, pilotfish: Command
) -> None:
    call = ["label", data, "--weak", WEAK, "--out", tmp_path / "run", "--quiet"]
    found, _, err = pilotfish(*call, "--max-new-tokens", 8, *extra)
    assert (found, words in err) == (code, True), err


def test_bad_rows_end_with_code_3_and_a_run_is_needed(
    data: str, tmp_path: Path, pilotfish: Command
) -> None:
    Path(data).write_text(Path(data).read_text() + "{broken\n")
    code, _, err = pilotfish("label", data, "--weak", WEAK, "--out", tmp_path / "run")
    assert code == 3 and "1 of 7" in err
    code, _, err = pilotfish("label", data, "--weak", WEAK)
    assert code == 2 and "--out" in err
