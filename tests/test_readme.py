"""The README's lines run, and every command, option, file and link the docs name exists."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from pilotfish.cli.app import app
from pilotfish.config import make_recipe
from pilotfish.number_formats import int8_supported
from tests.cli.conftest import alpaca, write_jsonl
from tests.tiny.models import tiny_gpt2, tiny_llama

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
HEADERS = sorted((ROOT / "examples").glob("*"))
COMMANDS: dict[str, Any] = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
SELECTED = "runs/alpaca/selections/selected/selected.jsonl"
ABSENT = {"plan", "export"}  # named only to say that they do not exist


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(text: str) -> Iterator[list[str]]:
    """Every `pilotfish ...` of a text, in code blocks, comments and inline code, as words."""
    text = re.sub(r"\\\n#?\s*", " ", text)  # a line that goes on
    found = re.findall(r"^[#$> ]*(pilotfish [a-z].*)$", text, re.MULTILINE)
    found += [" ".join(code.split()) for code in re.findall(r"`(pilotfish\s[^`]+)`", text)]
    for line in found:
        yield shlex.split(line.replace("...", ""), comments=True)


def runs_here(line: str) -> bool:
    """Whether a line is run by these tests; those that start processes have tests of their own."""
    if any(option in line for option in ("--executor", "--workers", "--merge")):
        return False
    if line.startswith(("pilotfish label", "pilotfish compare")):
        return False  # models of random weights answer nothing; both have tests with trained ones
    return line.startswith("pilotfish ") and ("int8" not in line or int8_supported())


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where the README's file and, as local folders, its models lie."""
    write_jsonl(tmp_path / "alpaca.jsonl", alpaca(60))
    tiny_gpt2(tmp_path / "HuggingFaceTB" / "SmolLM2-135M", seed=1)
    tiny_gpt2(tmp_path / "HuggingFaceTB" / "SmolLM2-1.7B", seed=3)
    tiny_llama(tmp_path / "Qwen" / "Qwen2.5-1.5B", seed=2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_lines_of_the_readme_run(
    alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pilotfish.cli.main import run

    lines = [line for block in blocks(README, "bash") for line in block.splitlines()]
    lines = [line for line in lines if runs_here(line)]
    assert len(lines) >= 5
    for line in lines:
        assert run(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    assert "was kept" in (out := capsys.readouterr().out) or "was dropped" in out
    assert len((alone / SELECTED).read_text().splitlines()) == 6
    assert (alone / "runs/whole/report.html").exists()


def test_the_python_of_the_readme_runs(alone: Path) -> None:
    (code,) = blocks(README, "python")
    exec(compile(code, "README.md", "exec"), {})
    rows = (alone / "alpaca.jsonl").read_text().splitlines()
    picked = (alone / "selected.jsonl").read_text().splitlines()
    assert len(picked) == 6 and set(picked) <= set(rows)


def test_the_commands_of_the_recipes_run(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All but `run` itself, on 60 rows; TINY, SMALL and LARGE are folders here."""
    from pilotfish.cli.main import run

    page = ROOT / "docs" / "recipes.md"
    (alone / "SMALL").symlink_to(alone / "HuggingFaceTB" / "SmolLM2-135M")
    (alone / "LARGE").symlink_to(alone / "Qwen" / "Qwen2.5-1.5B")
    (alone / "TINY").symlink_to(alone / "HuggingFaceTB" / "SmolLM2-135M")
    topics = [{**row, "topic": ("web", "books")[i % 2]} for i, row in enumerate(alpaca(60))]
    write_jsonl(alone / "rows.jsonl", topics)
    write_jsonl(alone / "test.jsonl", alpaca(64)[60:])
    (alone / "qa.csv").write_text("question,answer\nhow,so\nwhy,because\n")
    (own,) = blocks(page, "python")
    (alone / "my_module.py").write_text(own)
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    lines = [line for line in lines if runs_here(line)]
    for line in [line for line in lines if not line.startswith("pilotfish run ")]:
        # a pool this small has fewer
        short = line.replace("2Mtokens", "500tokens").replace("500rows", "4rows")
        assert run(shlex.split(short)[1:]) == 0, (line, capsys.readouterr().err)


def test_the_yaml_of_the_recipes_is_valid() -> None:
    (text,) = blocks(ROOT / "docs" / "recipes.md", "yaml")
    assert make_recipe(yaml.safe_load(text)).losses


@pytest.mark.parametrize("page", [*PAGES, *HEADERS], ids=lambda page: page.name)
def test_every_command_and_option_named_exists(page: Path) -> None:
    for words in commands(page.read_text()):
        name = words[1].rstrip(".,;")
        assert name in COMMANDS or name in ABSENT, words
        known = (
            {opt for param in COMMANDS[name].params for opt in param.opts}
            if name in COMMANDS
            else set()
        )
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_and_link_named_exists(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target
    for script in re.findall(r"python ((?:benchmarks|examples)/\S+\.py)", text):
        assert (ROOT / script).exists(), script
    for page_, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)\)", text):
        there = (page.parent / page_).read_text() if page_ else text
        heads = re.findall(r"^#+ (.*)$", there, re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
        assert anchor in slugs, anchor


def test_the_tree_of_the_readme_names_every_room() -> None:
    tree = README.read_text().partition("## The tree")[2]
    source = ROOT / "src" / "pilotfish"
    rooms = {
        path.name + ("/" if path.is_dir() else "")
        for path in source.iterdir()
        if not path.name.startswith("_") and (path.is_dir() or path.suffix == ".py")
    }
    assert rooms == set(re.findall(r"^  (\S+)", tree, re.MULTILINE))


def test_every_method_has_its_page_with_seven_heads() -> None:
    from pilotfish.methods import METHODS

    wanted = [
        "Idea",
        "Formula",
        "What it needs",
        "Cost",
        "Our departures",
        "Our result",
        "Citation",
    ]
    for name in METHODS:
        page = ROOT / "docs" / "methods" / f"{name}.md"
        assert re.findall(r"^## (.*)$", page.read_text(), re.MULTILINE) == wanted, name


def test_contributing_stays_short() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 40
