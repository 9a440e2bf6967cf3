"""Read the files of a run that the report is made from."""

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
    """Columns [n] of scores.parquet for one score NAME, in pool order."""

    name: str
    ids: Texts
    source: Texts
    row: Ints
    prompt_tokens: Ints
    response_tokens: Ints
    truncated: NDArray[np.bool_]
    value: Floats  # nan where unscorable
    reason: Texts  # "" where scored

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class SelectionFiles:
    """Columns [n] of one selection's decisions.parquet, in the order of the scores."""

    name: str
    kept: NDArray[np.bool_]
    rank: Ints  # -1 where dropped
    reason: Texts
    score: Floats  # nan where unscorable


def read_scores(run: Run, name: str) -> ScoreFiles | None:
    """Read one score column with its rows' ids, lengths and reasons; None if it is not on disk.

    Raises:
        DamagedRun: The file is not the one that was committed.
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
    """Read one selection's decisions, in the order of `ids`; None if they are not on disk.

    Raises:
        DamagedRun: The file is not the one that was committed.
    """
    folder, columns = f"selections/{name}", ["id", "kept", "rank", "reason", "score"]
    found = _columns(run, f"{folder}/decisions.parquet", f"{folder}/manifest.json", columns)
    if found is None:
        return None
    index = {key: at for at, key in enumerate(found["id"])}
    order = np.asarray([index.get(key, -1) for key in ids], dtype=np.int64)
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
    """Return whether the run has trusted rows."""
    return bool(run.section("config").get("trusted") or run.section("weak").get("trusted"))


def main_selection(selections: Mapping[str, Any]) -> str | None:
    """Return the selection that the page is about: `selected`, else the first non-control."""
    own = (name for name in sorted(selections) if not _CONTROL.fullmatch(name))
    return "selected" if "selected" in selections else next(own, None)


def trained(run: Run) -> dict[ArmSeed, dict[str, Any]]:
    """Return the manifest of each finished training, by arm and seed."""
    found: dict[ArmSeed, dict[str, Any]] = {}
    for path in sorted(run.root.glob("train/*/seed-*/manifest.json")):
        facts = run.store.read_json(str(path.relative_to(run.root)))
        if facts and "arm" in facts and "seed" in facts:
            found[(str(facts["arm"]), int(facts["seed"]))] = facts
    return dict(sorted(found.items()))


def tuned(run: Run) -> dict[ArmSeed, dict[str, Any]]:
    """Return the manifest of each tuned weak model, as the arm `weak` of its seed."""
    found: dict[ArmSeed, dict[str, Any]] = {}
    for path in sorted(run.root.glob("weak/**/manifest.json")):
        seed = path.parent.name.removeprefix("seed-")
        facts = run.store.read_json(str(path.relative_to(run.root)))
        found["weak", 0 if seed == "weak" else int(seed)] = facts or {}
    return found


def canaries(run: Run) -> list[dict[str, Any]]:
    """Return the canary measurements of every selection that has not changed since."""
    found = []
    for path in sorted(run.root.glob("canaries/*.json")):
        measured = run.store.require(str(path.relative_to(run.root)))
        selection = run.section("selections").get(measured["selection"], {})
        made_from = measured["made_from"]["selection"]
        if {key: selection.get(key) for key in made_from} == made_from:
            found.append({k: v for k, v in measured.items() if k not in ("files", "made_from")})
    return found


def costs(run: Run) -> list[dict[str, Any]]:
    """Return the cost lines of events.jsonl in their order; an incomplete last line is skipped."""
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
