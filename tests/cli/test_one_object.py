"""What `--json` promises: one object on stdout, on success and on error, safe to show."""

import json
from pathlib import Path

from tests.cli.conftest import Command, alpaca, write_jsonl


def test_inspect_prints_one_json_object_also_where_a_run_would_stop(
    tmp_path: Path, pilotfish: Command
) -> None:
    bad = tmp_path / "d.jsonl"
    write_jsonl(bad, alpaca(9))
    bad.write_text(bad.read_text() + "{broken\n")
    code, out, err = pilotfish("inspect", bad, "--json", "--quiet")
    found = json.loads(out)
    assert (code, found["exit"], found["rows"]) == (3, 3, 9)
    assert found["error"] in err
    (tmp_path / "empty.jsonl").write_text("")
    code, out, _ = pilotfish("inspect", tmp_path / "empty.jsonl", "--json")
    assert (code, json.loads(out)["exit"]) == (3, 3)


def test_no_control_or_bidi_character_of_a_row_reaches_the_terminal_raw_in_json(
    tmp_path: Path, pilotfish: Command
) -> None:
    evil = "\x1b[31m\x9b31m\x7f\u202eevil\u2066 é 日本"
    data = write_jsonl(tmp_path / "d.jsonl", [{"prompt": evil, "completion": "x"}])
    code, out, _ = pilotfish("inspect", data, "--json")
    assert code == 0
    assert not set(out) & set("\x1b\x9b\x7f\u202e\u2066")
    assert "é 日本" in out
    assert json.loads(out)["rendered"][0]["text"].startswith(evil)


def test_schema_takes_json_as_every_command_does(pilotfish: Command) -> None:
    code, out, _ = pilotfish("schema", "--json")
    assert code == 0 and out.count("\n") == 1
    assert json.loads(out) == json.loads(pilotfish("schema")[1])
