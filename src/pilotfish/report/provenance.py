"""Where the numbers come from: versions, digests, seeds and settings, as named entries."""

from collections.abc import Iterator, Mapping
from typing import Any

from pilotfish.report import facts
from pilotfish.store import Run

Entries = list[dict[str, str]]


def provenance(run: Run) -> dict[str, Entries]:
    """Groups of {name, value}; a group without entries is left out.

    Entries, not keys: a path or a recipe's own word stays text wherever it is shown.
    """
    told, trained = run.manifest, facts.trained(run)
    read = run.store.read_json("pool/manifest.json") or {}
    groups = {
        "run": {"pilotfish": told.get("pilotfish"), "status": told.get("status")},
        "data": {
            **run.section("data"),
            **_named(read, "schema", "fingerprint"),
        },
        "files_by_sha256": [{"name": path, "value": sha} for path, sha in _pairs(read)],
        "weak_model": run.section("weak"),
        "strong_model": next(
            (_named(made, "strong", "strong_digest", "loss", "peft") for made in trained.values()),
            {},
        ),
        "test": run.section("test"),
        "scores": [_line(name, facts) for name, facts in run.section("scores").items()],
        "selections": [_line(name, facts) for name, facts in run.section("selections").items()],
        "evidence": run.section("evidence"),
        "settings": run.section("config"),
    }
    listed = {
        group: value if isinstance(value, list) else list(_entries(value))
        for group, value in groups.items()
    }
    return {group: entries for group, entries in listed.items() if entries}


def _line(name: str, told: Mapping[str, Any]) -> dict[str, str]:
    """One entry for a score or a selection: there may be dozens of them."""
    parts = (f"{entry['name']} {entry['value']}" for entry in _entries(told))
    return {"name": name, "value": "; ".join(parts)}


def _named(told: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: told[name] for name in names if name in told}


def _pairs(read: Mapping[str, Any]) -> list[tuple[str, str]]:
    sources = read.get("sources")
    return sorted(sources.items()) if isinstance(sources, Mapping) else []


def _entries(value: Any, path: str = "") -> Iterator[dict[str, str]]:
    """Nested settings as flat entries, `train.loss`; what is not set is left out."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _entries(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(v, Mapping | list) for v in value):
        for at, inner in enumerate(value):
            yield from _entries(inner, f"{path}.{at}")
    elif isinstance(value, list | tuple) and value:
        yield {"name": path, "value": ", ".join(str(inner) for inner in value)}
    elif value is not None and value != "" and not isinstance(value, list | tuple):
        yield {"name": path, "value": str(value)}


def models(run: Run) -> dict[str, str | None]:
    """The names of both models, as given."""
    settings, weak = run.section("config"), run.section("weak")
    trained = next(iter(facts.trained(run).values()), {})
    return {
        "Weak": settings.get("weak") or weak.get("name"),
        "Strong": settings.get("strong") or trained.get("strong"),
    }
