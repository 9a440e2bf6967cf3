"""S1: no name a person or a recipe gives leads out of the run folder."""

import json
import shutil
from pathlib import Path

import pytest

from pilotfish.cli.main import run as run_command
from tests.experiments.runs import scored_run
from tests.figures import Reached, size
from tests.torture.jobs import Jobs

pytestmark = pytest.mark.torture

NAMES = (
    "..", ".", "../x", "../../x", "/tmp/pilotfish-x",
    "a/b", "a/../../x", "./x", "x/", "\\x", "..\\x",
    "C:\\x", "~", "~root", "$HOME", "${HOME}", "`id`", "$(id)", "x;id", "x|id",
    "x\ny", "x\ty", "x\x00y",
    "\x1b[31m", "\u202ex", "\u2044x", "\uff0e\uff0e\uff0fx", "%2e%2e%2fx",
    "x" * 129, "x" * 5000, "*", "?",
    " ", "-", "CON:", "\ud800", ".tmp-x\x00", "<script>", "'; --",
)  # fmt: skip


def commands(run: Path, weak: str, name: str) -> dict[str, list[str]]:
    """Every way a name reaches a path, by the option it comes through."""
    return {
        "select --as": [
            "select",
            f"{run}",
            "--method=superfiltering",
            "--budget=10%",
            "--as",
            name,
        ],
        "label --as": ["label", f"{run}", "--weak", weak, "--as", name, "--classes", "a,b"],
        "train --arm": ["train", f"{run}", "--strong", weak, "--arm", name],
        "evaluate --arm": ["evaluate", f"{run}", "--arm", name],
        "export --arms": ["export", f"{run}", "--to", "jsonl", "--arms", name],
        "export --to": ["export", f"{run}", "--to", name],
        "explain --selection": ["explain", f"{run}", "--row", "0", "--selection", name],
    }


def recipes(folder: Path, data: str, model: str, name: str) -> list[list[str]]:
    """Every block of a recipe whose keys become arms and selections."""
    blocks = {"losses": {name: "lm"}, "methods": {name: "ifd"}, "variants": {name: {}}}
    commands = []
    for block, named in blocks.items():
        path = folder / f"{block}.yaml"
        path.write_text(json.dumps({"data": data, "weak": model, "strong": model, block: named}))
        commands.append(["run", str(path), "--out", str(folder / "run" / "in"), "--quiet"])
    return commands


def around(folder: Path, run: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_relative_to(run)}


def test_no_name_leads_out_of_the_run(
    jobs: Jobs, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    reached: Reached,
) -> None:  # fmt: skip
    """Each ends with a word and exit 2, and nothing appears anywhere beside the run."""
    inner = tmp_path / "a" / "b"
    run = scored_run(inner / "run", 20).root
    monkeypatch.chdir(inner)
    for command in recipes(inner, jobs.data, jobs.weak, "x"):  # written where they will lie
        assert Path(command[1]).exists()
    before, inside, tried = around(tmp_path, run), {*run.rglob("*")}, 0
    for name in size(NAMES[::6], NAMES):
        for option, command in commands(run, jobs.weak, name).items():
            capsys.readouterr()
            code = run_command([*command, "--quiet"] if "explain" not in option else command)
            said = capsys.readouterr().err
            assert (code, "Traceback" in said) == (2, False), (name, option, said)
            assert around(tmp_path, run) == before, (name, option)
            tried += 1
        for command in recipes(inner, jobs.data, jobs.weak, name):
            assert run_command(command) == 2, (name, command)
            said = capsys.readouterr().err
            assert "Traceback" not in said, (name, command)
            tried += 1
    assert {path.name for path in {*run.rglob("*")} - inside} <= {"LOCK", "events.jsonl"}
    ways = len(commands(run, "", "")) + len(recipes(inner, jobs.data, "", ""))
    assert not Path("/tmp/pilotfish-x").exists()
    reached("S1", f"0 of {tried:,} names through {ways} options left the run")


def test_a_good_name_is_taken(tmp_path: Path) -> None:
    """The negative control: it is the name that is refused."""
    run = scored_run(tmp_path / "run", 20).root
    assert run_command([*commands(run, "", "x-1.b_2")["select --as"], "--quiet"]) == 0
    shutil.rmtree(run)
