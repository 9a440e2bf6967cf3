"""What a run's files say, read once and never recomputed."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pilotfish.records import Floats, Ints, Texts
from pilotfish.store import Run

ArmSeed = tuple[str, int]
_CONTROL = re.compile(r"(random|length_matched|longest|full)(-\d+)?")


@dataclass(frozen=True)
class ScoreFiles:
    """Columns of scores.parquet for one score NAME, in pool order."""

    name: str
    ids: Texts  # [n]
    source: Texts  # [n]
    row: Ints  # [n]
    prompt_tokens: Ints  # [n]
    response_tokens: Ints  # [n]
    truncated: NDArray[np.bool_]  # [n]
    value: Floats  # [n] nan where unscorable
    reason: Texts  # [n] "" where scored

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class SelectionFiles:
    """Columns of one selection's decisions.parquet, in the order of the scores."""

    name: str
    kept: NDArray[np.bool_]  # [n]
    rank: Ints  # [n] -1 where dropped
    reason: Texts  # [n]
    score: Floats  # [n] nan where unscorable


def read_scores(run: Run, name: str) -> ScoreFiles | None:
    """One score column with what stands beside it; None when it is not on disk.

    Raises DamagedRun (exit 6) where the file is not the one that was committed.
    """
    columns = ["id", "source", "row", "n_prompt_tokens", "n_response_tokens", "truncated"]
    found = _columns(run, "scores.parquet", "scores.json", [*columns, name, f"{name}_reason"])
    if found is None or name not in found:
        return None
    count = len(found["id"])
    return ScoreFiles(
        name=name,
        ids=found["id"],
        source=_texts(found["source"]),
        row=_whole(found["row"]),
        prompt_tokens=_whole(found["n_prompt_tokens"]),
        response_tokens=_whole(found["n_response_tokens"]),
        truncated=np.asarray([bool(value) for value in found["truncated"]]),
        value=_floats(found[name]),
        reason=_texts(found.get(f"{name}_reason", np.full(count, None))),
    )


def read_selection(run: Run, name: str, ids: Texts) -> SelectionFiles | None:
    """One selection's decisions put in the order of `ids`; None when they are not on disk.

    Raises DamagedRun (exit 6) where the file is not the one that was committed.
    """
    folder, columns = f"selections/{name}", ["id", "kept", "rank", "reason", "score"]
    found = _columns(run, f"{folder}/decisions.parquet", f"{folder}/manifest.json", columns)
    if found is None:
        return None
    place = {key: at for at, key in enumerate(found["id"])}
    order = np.asarray([place.get(key, -1) for key in ids], dtype=np.int64)
    if (order < 0).any():
        return None
    return SelectionFiles(
        name=name,
        kept=np.asarray([bool(value) for value in found["kept"][order]]),
        rank=_whole(found["rank"][order]),
        reason=_texts(found["reason"][order]),
        score=_floats(found["score"][order]),
    )


def _columns(
    run: Run, rel: str, manifest: str, names: list[str]
) -> dict[str, NDArray[np.object_]] | None:
    if run.store.read_json(manifest) is None:
        return None
    run.store.require(manifest)
    with pq.ParquetFile(run.store.path(rel)) as file:
        present = [name for name in names if name in file.schema_arrow.names]
        table = file.read(columns=present)
    return {name: _objects(table.column(name).to_pylist()) for name in present}


def _objects(values: list[Any]) -> NDArray[np.object_]:
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def _texts(values: NDArray[np.object_]) -> Texts:
    return _objects(["" if value is None else str(value) for value in values])


def _floats(values: NDArray[np.object_]) -> Floats:
    return np.asarray([np.nan if v is None else float(v) for v in values], dtype=np.float64)


def _whole(values: NDArray[np.object_]) -> Ints:
    return np.asarray([-1 if v is None else int(v) for v in values], dtype=np.int64)


def has_trusted(run: Run) -> bool:
    """Whether the run was given rows that a person vouches for."""
    return bool(run.section("config").get("trusted") or run.section("weak").get("trusted"))


def main_selection(selections: Mapping[str, Any]) -> str | None:
    """The selection the page is about: `selected`, else the first that is no control."""
    own = (name for name in sorted(selections) if not is_control(name))
    return "selected" if "selected" in selections else next(own, None)


def is_control(name: str) -> bool:
    """Whether a selection is a control drawn beside the real one, by its name."""
    return _CONTROL.fullmatch(name) is not None


def trained(run: Run) -> dict[ArmSeed, dict[str, Any]]:
    """Manifest of every finished training, by arm and seed."""
    return _per_seed(run, "train/*/seed-*/manifest.json")


def tuned(run: Run) -> dict[ArmSeed, dict[str, Any]]:
    """Manifest of every tuned weak model, as the arm `weak` of its seed; {} where none was."""
    found: dict[ArmSeed, dict[str, Any]] = {}
    for path in sorted(run.root.glob("weak/**/manifest.json")):
        seed = path.parent.name.removeprefix("seed-")
        told = run.store.read_json(str(path.relative_to(run.root)))
        found["weak", 0 if seed == "weak" else int(seed)] = told or {}
    return found


def read_results(run: Run) -> dict[ArmSeed, dict[str, Any]]:
    """Manifest of every finished judging, by arm and seed."""
    return _per_seed(run, "judge/**/seed-*.json")


def _per_seed(run: Run, pattern: str) -> dict[ArmSeed, dict[str, Any]]:
    found: dict[ArmSeed, dict[str, Any]] = {}
    for path in sorted(run.root.glob(pattern)):
        facts = run.store.read_json(str(path.relative_to(run.root)))
        if facts and "arm" in facts and "seed" in facts:
            found[(str(facts["arm"]), int(facts["seed"]))] = facts
    return dict(sorted(found.items()))


def canaries(run: Run) -> list[dict[str, Any]]:
    """What became of planted rows, for every selection that still is the one they were held to."""
    found = []
    for path in sorted(run.root.glob("canaries/*.json")):
        told = run.store.require(str(path.relative_to(run.root)))
        facts = run.section("selections").get(told["selection"], {})
        made_by = told["made_from"]["selection"]
        if {key: facts.get(key) for key in made_by} == made_by:
            found.append({k: v for k, v in told.items() if k not in ("files", "made_from")})
    return found


def costs(run: Run) -> list[dict[str, Any]]:
    """Every cost line of events.jsonl, in the order written; a torn last line is skipped."""
    path = run.root / "events.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("kind") == "cost":
            found.append(event)
    return found
