"""The words around --executor: what cannot be meant, what is missing, and what to type instead."""

from pathlib import Path

import pytest

from tests.cli.conftest import Command, alpaca, write_jsonl


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--executor", "rays"], "did you mean 'ray'"),
        (["--rank", "0", "--world", "2"], "add --executor ranks"),
        (["--executor", "ranks", "--rank", "2", "--world", "2"], "numbered from 0 to 1"),
        (["--executor", "ranks"], "pass --rank I --world N"),
        (["--executor", "ranks", "--rank", "0", "--world", "1", "--workers", "2"], "one process"),
        (["--executor", "ranks", "--rank", "0", "--world", "1", "--force"], "--executor local"),
        (["--workers", "0"], "--workers"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_is_read(
    tmp_path: Path, weak: str, pilotfish: Command, monkeypatch: pytest.MonkeyPatch,
    more: list[str], words: str,
) -> None:  # fmt: skip
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    run = tmp_path / "run"
    code, _, err = pilotfish(
        "score", "absent.jsonl", "--weak", weak, "--method", "ifd", "--out", run, *more
    )
    assert code == 2 and words in err and not run.exists()


def test_only_merge_does_without_a_model_and_a_method(tmp_path: Path, pilotfish: Command) -> None:
    data = write_jsonl(tmp_path / "d.jsonl", alpaca(3))
    code, _, err = pilotfish("score", data, "--out", tmp_path / "r", "--method", "ifd")
    assert code == 2 and "--weak MODEL" in err
    code, _, err = pilotfish("score", data, "--out", tmp_path / "r", "--weak", "w")
    assert code == 2 and "--method METHOD" in err
    code, _, err = pilotfish("score", tmp_path / "r", "--out", tmp_path / "r", "--merge")
    assert code == 2 and "there is no run" in err


def test_one_rank_scores_a_run_and_merge_has_nothing_left_to_do(
    tmp_path: Path, weak: str, pilotfish: Command
) -> None:
    data = write_jsonl(tmp_path / "d.jsonl", alpaca(20))
    run = tmp_path / "run"
    ranks = ("--executor", "ranks", "--rank", "1", "--world", "2")
    code, out, err = pilotfish(
        "score", data, "--weak", weak, "--method", "ifd", "--out", run, *ranks
    )
    assert code == 0 and "rank 1 of 2: 1 shards" in err, err
    assert "ifd:" in out and "pilotfish select" in out
    again, told, _ = pilotfish("score", run, "--merge")
    assert again == 0 and told == out
    assert not (run / "ranks.json").exists() and not (run / "leases").exists()
    assert pilotfish("verify", run)[0] == 0
