"""Command lines of somebody who tries to break them: a sentence and the right code, no fault."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pilotfish.cli.main import run as run_command
from tests.cli.conftest import alpaca, write_jsonl


@pytest.fixture
def data(tmp_path: Path) -> str:
    return write_jsonl(tmp_path / "rows.jsonl", alpaca(12))


def said(capsys: pytest.CaptureFixture[str], code: int, words: list[str]) -> str:
    """What is said of a command that ends with this code, and is no fault of ours."""
    capsys.readouterr()
    assert run_command(words) == code, words
    told = capsys.readouterr().err
    assert "Traceback" not in told and "internal error" not in told
    return told


def scoring(data: str, weak: str, out: str, *more: str) -> list[str]:
    words = ["score", data, "--weak", weak, "--method", "perplexity", "--out", out, "--quiet"]
    return [*words, *more]


@pytest.mark.parametrize("place", [1, 3, 5, 7])
def test_an_empty_argument_is_not_the_folder_we_are_in(
    place: int, data: str, weak: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = scoring(data, weak, str(tmp_path / "run"))
    words[place] = ""
    assert "an argument is empty" in said(capsys, 2, words)
    assert not (tmp_path / "run").exists()


def test_folders_that_nobody_can_make(
    data: str, weak: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if Path("/proc/self").exists():
        assert "cannot be made" in said(capsys, 2, scoring(data, weak, "/proc/run"))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    os.rmdir(here)
    assert "cannot be made" in said(capsys, 2, scoring(data, weak, "run"))


def test_a_limit_beyond_every_file_is_none(
    data: str, weak: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, 0, scoring(data, weak, str(tmp_path / "run"), "--limit", "9" * 30))


@pytest.mark.parametrize("setting", ["seeds=99999999999", "seeds=yes", "train.max_steps=true"])
def test_numbers_that_are_none_or_without_end(
    setting: str, data: str, weak: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", data, "--weak", weak, "--strong", weak, "--out", str(tmp_path / "run")]
    told = said(capsys, 2, [*words, "--set", setting])
    assert f"'{setting.partition('=')[0]}' is wrong" in told


def test_a_config_of_more_layers_than_there_are_tensors(
    data: str, weak: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It took hours to find out that none of them is there."""
    folder = tmp_path / "weak"
    folder.mkdir()
    for path in Path(weak).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 10**7}))
    told = said(capsys, 2, scoring(data, str(folder), str(tmp_path / "run")))
    assert "asks for 10,000,000 layers" in told


# what a shell does with the streams, the command, and the code it ends with
STREAMS = [
    (">/dev/full", "methods", 74), (">/dev/full", "no-such --json", 2), (">&-", "methods", 0),
    ("2>/dev/full", "no-such", 2), ("2>&-", "no-such", 2), (">&- 2>&- <&-", "methods", 0),
    (">/dev/full 2>/dev/full", "no-such --json", 2),
]  # fmt: skip


@pytest.mark.parametrize(("streams", "words", "code"), STREAMS)
def test_streams_that_take_nothing_change_no_exit_code(
    streams: str, words: str, code: int, tmp_path: Path
) -> None:
    line = f"{sys.executable} -m pilotfish {words}"
    done = subprocess.run(
        ["sh", "-c", f"{line} {streams}"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["methods", "--help", "methods --json"])
def test_a_reader_that_leaves_early_is_no_failure(words: str) -> None:
    line = [sys.executable, "-m", "pilotfish", *words.split()]
    child = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stderr is not None
    child.stdout.close()  # as `head` does it, before anything was written
    assert (child.wait(), child.stderr.read()) == (0, "")
    child.stderr.close()


def test_work_goes_on_where_nobody_reads_what_is_logged(
    data: str, weak: str, tmp_path: Path
) -> None:
    """`pilotfish score ... 2>&1 | head -1` ended with 0 and had scored nothing."""
    words = [word for word in scoring(data, weak, str(tmp_path / "run")) if word != "--quiet"]
    line = [sys.executable, "-m", "pilotfish", *words]
    child = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert child.stderr is not None
    child.stderr.close()
    assert child.wait() == 0
    assert (tmp_path / "run" / "scores.parquet").is_file()


def test_rows_through_a_pipe_are_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    told = said(capsys, 2, ["inspect", str(tmp_path / "rows.jsonl")])
    assert "neither a file nor a folder" in told
