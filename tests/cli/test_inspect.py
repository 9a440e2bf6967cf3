"""What `inspect` says of data that a run would refuse."""

import json
from pathlib import Path

from tests.cli.conftest import Command, alpaca, write_jsonl


def test_inspect_says_one_json_object_also_where_a_run_would_stop(
    tmp_path: Path, pilotfish: Command
) -> None:
    bad = tmp_path / "d.jsonl"
    write_jsonl(bad, alpaca(9))
    bad.write_text(bad.read_text() + "{broken\n")
    code, said, err = pilotfish("inspect", bad, "--json", "--quiet")
    found = json.loads(said)
    assert (code, found["exit"], found["rows"]) == (3, 3, 9)
    assert found["error"] in err
    (tmp_path / "empty.jsonl").write_text("")
    code, said, _ = pilotfish("inspect", tmp_path / "empty.jsonl", "--json")
    assert (code, json.loads(said)["exit"]) == (3, 3)
