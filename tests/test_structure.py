"""The shape of the house: imports run downward, no circle, numpy rooms stay free of torch."""

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src" / "pilotfish"

FLOORS = {
    "errors": 0, "_version": 0, "redaction": 0, "remote_code": 0, "progress": 0,
    "records": 1, "stats": 1,
    "budget": 2, "number_formats": 2, "store": 2, "config": 2, "tokenization": 2,
    "run_context": 3, "data_order": 3, "data": 3, "models": 3, "losses": 3, "methods": 3,
    "diversity": 3,
    "engine": 4, "flops": 4,
    "training": 5, "evaluation": 5,
    "scoring": 6, "labeling": 6, "comparison": 6,
    "selection": 7, "report": 7,
    "arms": 8, "diagnostics": 8,
    "planning": 9,
    "experiments": 10,
    "weak_to_strong": 11, "export": 11, "demo": 11,
    "api": 12,
    "cli": 13, "__main__": 14,
}  # fmt: skip

TABLES = {
    "data/formats": "FORMATS", "methods/rankers": "RANKERS", "losses": "LOSSES",
    "engine/signals": "SIGNALS", "methods": "METHODS", "evaluation": "METRICS",
    "labeling/filters": "FILTERS", "export": "TARGETS",
}  # fmt: skip


def room_of(path: Path) -> str:
    parts = path.relative_to(SRC).parts
    return parts[0] if len(parts) > 1 else path.stem


def imported_rooms(path: Path) -> set[str]:
    """Rooms of pilotfish a file imports, wherever in the file the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "pilotfish" and len(parts) > 1 and parts[1] != "__version__":
                found.add(parts[1])
    return found


FILES = sorted(path for path in SRC.rglob("*.py") if path != SRC / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_imports_run_strictly_downward(path: Path) -> None:
    room = room_of(path)
    assert room in FLOORS, f"{room} has no floor: put it into docs/architecture.md and here"
    upward = {
        other for other in imported_rooms(path) if other != room and FLOORS[other] >= FLOORS[room]
    }
    assert not upward, f"{path.name} (floor {FLOORS[room]}) imports up or sideways: {upward}"


def test_no_circle_between_files() -> None:
    names = {
        path: ".".join(("pilotfish", *path.relative_to(SRC).with_suffix("").parts))
        for path in FILES
    }
    modules = {name.removesuffix(".__init__"): path for path, name in names.items()}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        edges: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in modules:
                inner = {f"{node.module}.{alias.name}" for alias in node.names} & modules.keys()
                edges |= inner or {node.module}
        graph[module] = edges - {module}
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module not in done:
            for other in sorted(graph[module]):
                walk(other, (*trail, module))
            done.add(module)

    for module in sorted(graph):
        walk(module, ())


@pytest.mark.parametrize(("room", "table"), sorted(TABLES.items()))
def test_every_method_table_equals_its_folder(room: str, table: str) -> None:
    folder = SRC / room
    entries = getattr(importlib.import_module(f"pilotfish.{room.replace('/', '.')}"), table)
    homes = {
        (entry if isinstance(entry, type) or callable(entry) else type(entry)).__module__.split(
            "."
        )[-1]
        for entry in entries.values()
    }
    tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
    helpers = next(
        (
            set(ast.literal_eval(node.value))
            for node in tree.body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "HELPERS"
        ),
        set(),
    )
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert homes == files - helpers, f"{room}: table and folder differ (HELPERS names the rest)"


LIGHT = [
    "pilotfish", "pilotfish.stats", "pilotfish.records", "pilotfish.budget",
    "pilotfish.methods.rankers", "pilotfish.selection.histogram", "pilotfish.scoring.audit",
    "pilotfish.methods", "pilotfish.flops", "pilotfish.data", "pilotfish.tokenization",
    "pilotfish.diversity", "pilotfish.labeling.filters", "pilotfish.selection.select",
    "pilotfish.cli", "pilotfish.report", "pilotfish.api",
]  # fmt: skip


HEAVY = {"torch", "transformers", "datasets", "accelerate", "peft", "scipy"}


def loaded_after(modules: list[str]) -> dict[str, set[str]]:
    """Top-level packages in memory after each import, all made in turn by one fresh process."""
    code = (
        "import importlib, json, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    print(json.dumps([name, sorted({key.split('.')[0] for key in sys.modules})]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *modules], capture_output=True, text=True, check=True
    )
    return {name: set(found) for name, found in map(json.loads, done.stdout.splitlines())}


def test_light_rooms_load_no_torch_and_no_scipy() -> None:
    blamed = {name: HEAVY & found for name, found in loaded_after(LIGHT).items() if HEAVY & found}
    assert not blamed, f"the first of these is to blame: {blamed}"


def test_numpy_rooms_load_only_numpy() -> None:
    rooms = ["stats", "records", "methods.rankers", "methods", "flops", "budget", "scoring.audit"]
    rooms += ["selection.histogram", "selection.quota", "diversity", "labeling.filters"]
    for name, found in loaded_after([f"pilotfish.{room}" for room in rooms]).items():
        assert "numpy" in found and not {*HEAVY, "pyarrow"} & found, name


FILE_LINES = 600  # a file tells one story
BODY_LINES = 60  # of a function without signature and docstring; most are far below 40
ODD = re.compile(r"\b(told|said|asked|beside|anew|heeds?|nobody|somebody|vouched)\b")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions_of(path: Path) -> list[Function]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def test_files_and_functions_have_a_size_that_can_be_read() -> None:
    long = []
    for path in FILES:
        name = str(path.relative_to(SRC))
        lines = path.read_text(encoding="utf-8").count("\n")
        long += [f"{name}: {lines} lines"] if lines > FILE_LINES else []
        for function in functions_of(path):
            first = function.body[1 if ast.get_docstring(function) else 0 :]
            body = function.body[-1].end_lineno - first[0].lineno + 1 if first else 0
            long += [f"{name}: {function.name} {body} lines"] if body > BODY_LINES else []
    assert not long


def test_public_functions_with_many_parameters_describe_them() -> None:
    silent = []
    for path in FILES:
        if room_of(path) == "cli":  # each option has its help
            continue
        for function in functions_of(path):
            arguments = function.args
            names = {
                a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
            }
            described = "Args:" in (text := ast.get_docstring(function) or "") or "as in" in text
            if not function.name.startswith("_") and len(names - {"self", "cls"}) > 5:
                silent += [] if described else [f"{path.relative_to(SRC)}: {function.name}"]
    assert not silent


def test_names_and_docstrings_use_the_words_of_the_field() -> None:
    odd = []
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, Function | ast.ClassDef | ast.Module):
                name = getattr(node, "name", "")
                text = f"{name.replace('_', ' ').lower()} {ast.get_docstring(node) or ''}"
                odd += [f"{path.relative_to(SRC)}: {name}: {word}" for word in ODD.findall(text)]
    assert not odd, "docs: CONTRIBUTING.md, Words"
