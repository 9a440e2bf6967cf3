"""What goes wrong the first time somebody types a command, and what it must not cost them."""

from pathlib import Path

from tests.cli.conftest import Command, alpaca, write_jsonl


def test_an_edited_file_leaves_the_pool_its_scores_rest_on(
    tmp_path: Path, weak: str, pilotfish: Command
) -> None:
    data = write_jsonl(tmp_path / "d.jsonl", alpaca(20))
    run = tmp_path / "run"
    again = ("score", data, "--weak", weak, "--method", "ifd", "--out", run, "--quiet")
    assert pilotfish(*again)[0] == 0
    write_jsonl(tmp_path / "d.jsonl", alpaca(21))
    code, _, err = pilotfish(*again)
    assert code == 2 and "sources" in err and "--force" in err
    code, _, err = pilotfish("select", run, "--method", "ifd", "--budget", "2rows", "--allow-short")
    assert code == 0, err
    assert pilotfish(*again, "--force")[0] == 0


def test_a_reading_that_failed_does_not_bind_the_run_to_its_options(
    tmp_path: Path, weak: str, pilotfish: Command
) -> None:
    bad = tmp_path / "d.jsonl"
    write_jsonl(bad, alpaca(9))
    bad.write_text(bad.read_text() + "{broken\n")
    again = ("score", bad, "--weak", weak, "--method", "ifd", "--out", tmp_path / "r", "--quiet")
    assert pilotfish(*again)[0] == 3
    assert pilotfish(*again, "--max-bad-rate", "0.5")[0] == 0
    assert pilotfish(*again)[0] == 3  # a lower rate is checked anew, not refused
    named = write_jsonl(tmp_path / "n.jsonl", [{"q": "a", "a": "long word"}])
    again = ("score", named, "--weak", weak, "--method", "ifd", "--out", tmp_path / "n", "--quiet")
    assert pilotfish(*again)[0] == 2
    assert pilotfish(*again, "--map", "prompt=q,completion=a")[0] == 0
