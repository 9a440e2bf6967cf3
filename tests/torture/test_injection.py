"""S2: hostile text changes no page, steers no terminal and adds no setting, wherever shown."""

import ast
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import yaml

import pilotfish
from pilotfish.cli.main import run as run_command
from pilotfish.redaction import redact
from pilotfish.report import build, page
from pilotfish.report.sanitize import clean
from pilotfish.store import Run
from tests.experiments.runs import score_run
from tests.figures import Reached, size
from tests.report import fake
from tests.report.hostile import HOSTILE
from tests.report.parsing import active, parse

pytestmark = pytest.mark.torture

TEXTS = [text for text in HOSTILE if text]
UTF8 = [text for text in TEXTS if "\ud800" not in text]
FILE = "a\x1b[31m\u202e<img src=x onerror=alert(1)>.jsonl"


def steering(text: str) -> set[str]:
    """Characters that a terminal would obey and nobody would see."""
    unseen = ("Cc", "Cs", "Zl", "Zp", "Cf")
    return {
        char
        for char in text
        if unicodedata.category(char) in unseen and char not in "\n\t\u200c\u200d"
    }


def dealt(value: Any, first: int, key: str = "") -> tuple[Any, int]:
    """A report with another hostile text in every field, and how many were dealt."""
    if isinstance(value, dict):
        found = {}
        for name, inner in value.items():
            found[name], first = dealt(inner, first, name)
        return found, first
    if isinstance(value, list):
        listed = []
        for inner in value:
            each, first = dealt(inner, first, key)
            listed.append(each)
        return listed, first
    if not isinstance(value, str) or key in ("outcome", "scale"):
        return value, first
    return TEXTS[first % len(TEXTS)], first + 1


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run over rows whose ids, texts and file name are hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    data = folder / "data"
    data.mkdir()
    lines = [
        json.dumps({"id": f"{number} {text}", "prompt": f"{number} {text}", "completion": text})
        for number, text in enumerate(TEXTS)
    ]
    broken = [f'{{"prompt": {text!r}' for text in UTF8]
    (data / FILE).write_text("\n".join([*lines, *broken]) + "\n", encoding="utf-8")
    from tests.reading import read

    run = Run(folder / "run")
    pool = read(data, run.store, max_bad_rate=1.0)
    run.update(
        pool={"fingerprint": pool.fingerprint, "rows": len(pool)}, warnings=UTF8,
        data={"data": str(data), "max_bad_rate": 1.0},
    )  # fmt: skip
    score_run(run)
    assert run_command(["select", str(run.root), "--method=superfiltering", "--budget=50%"]) == 0
    return run


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fake.complete(tmp_path_factory.mktemp("complete"))


def test_no_field_of_the_page_lets_a_text_act(complete: Run, reached: Reached) -> None:
    run, report = complete, build(complete)
    plain = parse(page(_worded(report, "x"), run))
    turns = size(1, 44)
    for first in range(0, len(TEXTS), len(TEXTS) // turns):
        changed, after = dealt(report, first)
        shown = parse(page(changed, run))
        assert active(shown) == []
        assert shown.nodes == plain.nodes
        assert all(target.startswith("#") for target in shown.loaded)
        (policy,) = (m for m in shown.metas if m.get("http-equiv") == "Content-Security-Policy")
        assert (policy["content"] or "").startswith("default-src 'none'; style-src 'sha256-")
    fields = after - first
    reached("S2", f"report.html: 0 active nodes, {len(TEXTS)} texts over {fields} fields, "
            f"{turns} deals; the policy in every page")  # fmt: skip


def _worded(value: Any, text: str, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _worded(inner, text, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_worded(inner, text, key) for inner in value]
    return text if isinstance(value, str) and key not in ("outcome", "scale") else value


def test_a_page_that_escapes_nothing_is_found(complete: Run) -> None:
    """Negative control."""
    shown = page(build(complete), complete).replace("<main", "<svg onload=alert(1)></svg><main")
    assert active(parse(shown)) == [("svg", ("onload",))]


def test_the_report_of_hostile_rows_is_clean(hostile_run: Run, reached: Reached) -> None:
    assert run_command(["report", str(hostile_run.root)]) == 0
    told = (hostile_run.root / "report.json").read_text(encoding="utf-8")
    html = (hostile_run.root / "report.html").read_text(encoding="utf-8")
    assert active(parse(html)) == []
    assert steering(told + html) == set()
    assert {clean(text) for text in UTF8} <= set(json.loads(told)["warnings"])
    reached("S2", f"report.json: {len(TEXTS)} rows, ids and warnings, 0 unseen characters")


def commands(run: Path, text: str) -> list[list[str]]:
    """Commands that say a text again, most of them in an error."""
    return [
        ["explain", f"{run}", "--", text],
        ["select", f"{run}", f"--method={text}", "--budget=10%"],
        ["select", f"{run}", "--method=ifd", f"--budget={text}"],
        ["export", f"{run}", f"--to={text}"],
        ["export", f"{run}", "--to=jsonl", f"--arms=x{text}"],
        ["inspect", f"/nowhere/{text}"],
        ["run", f"/nowhere/{text}.yaml"],
        ["verify", f"/nowhere/{text}"],
    ]


def test_no_text_steers_the_terminal(
    hostile_run: Run, capsys: pytest.CaptureFixture[str], reached: Reached
) -> None:
    """Results, errors and --json of what is said about hostile rows, names and paths."""
    root, said = hostile_run.root, 0
    spoken = [["inspect", str(root.parent / "data")], ["verify", str(root)]]
    spoken += [
        ["explain", str(root), "--row", str(row)] for row in range(0, len(TEXTS), size(18, 1))
    ]
    for text in TEXTS[:: size(18, 1)]:
        spoken += commands(root, text)
    kinds = len({command[0] for command in spoken})
    for command in spoken:
        for more in ([], ["--json"]):
            if "--" in command and more:
                continue  # behind it everything is a text
            capsys.readouterr()
            run_command([*command, *more])
            told = capsys.readouterr()
            assert steering(told.out + told.err) == set(), command
            assert "Traceback" not in told.err, command
            assert not more or isinstance(json.loads(told.out), dict), command
            said += 1
    reached("S2", f"terminal: 0 unseen characters in {said:,} outputs of {kinds} commands")


def test_without_the_cleaning_it_is_steered(
    hostile_run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control."""
    monkeypatch.setattr("pilotfish.cli.console.plain", lambda text: text.replace("\ud800", ""))
    capsys.readouterr()
    run_command(["explain", str(hostile_run.root), "--", "\x1b[31m\u202e"])
    assert steering(capsys.readouterr().err) == {"\x1b", "\u202e"}


def test_json_output_says_the_text_itself(
    hostile_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is escaped on the way to a terminal is whole again for a program."""
    ids = [row["id"] for row in _lines(hostile_run.root / "selections/selected/selected.jsonl")]
    for number in range(0, len(ids), 9):
        capsys.readouterr()
        assert run_command(["explain", str(hostile_run.root), "--json", "--", ids[number]]) == 0
        assert json.loads(capsys.readouterr().out)["id"] == redact(ids[number])


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def test_quarantine_excerpts_are_plain_ascii(hostile_run: Run, reached: Reached) -> None:
    lines = (hostile_run.root / "pool/quarantine.jsonl").read_text(encoding="utf-8").splitlines()
    excerpts = [json.loads(line)["excerpt"] for line in lines]
    assert len(excerpts) >= len(UTF8)
    assert all(text.isascii() and text.isprintable() for text in excerpts)
    reached("S2", f"quarantine: {len(excerpts)} excerpts of printable ASCII")


@pytest.mark.parametrize("target", ["jsonl", "trl", "llamafactory", "axolotl"])
def test_exports_hold_texts_as_data(
    hostile_run: Run, target: str, tmp_path: Path, reached: Reached
) -> None:
    """A model's name may be any text: it stays one value of the config, and adds no other."""
    texts = UTF8[:: size(12, 3)]
    keys: set[tuple[str, ...]] = set()
    for number, text in enumerate(texts):
        out = tmp_path / str(number)
        command = ["export", str(hostile_run.root), "--to", target, f"--strong=a {text}", "--quiet"]
        code = run_command([*command, "--out", str(out), "--seed", "0"])
        taken = len(text.encode()) < 250 and "\x00" not in text  # no path can be such a text
        assert code == (0 if taken else 2), text
        if not taken:
            continue
        for path in out.glob("*.yaml"):
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
            assert f"a {redact(text)}" in config.values()
            keys.add(tuple(config))
        for path in out.glob("*.json*"):
            assert _lines(path) if path.suffix == ".jsonl" else json.loads(path.read_text())
        for path in out.glob("*.py"):
            ast.parse(path.read_text(encoding="utf-8"))
    assert len(keys) <= 1
    reached("S2", f"export to {target}: {len(texts)} model names, each one value and no more")


def test_no_table_for_spreadsheets_is_written_anywhere() -> None:
    """No formula can stand in a CSV that is not written; who writes one has to neutralise cells."""
    writing = {"writer", "DictWriter", "to_csv", "write_csv", "to_excel"}
    for path in Path(pilotfish.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not called & writing, path


def test_there_are_enough_of_them() -> None:
    assert len(set(HOSTILE)) >= 100
