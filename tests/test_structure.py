"""The shape of the house: imports run downward, no circle, numpy rooms stay free of torch."""

import ast
import importlib
import json
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
