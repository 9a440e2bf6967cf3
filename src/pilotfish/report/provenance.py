"""Where the numbers come from: versions, digests, seeds and settings, as the run recorded them."""

from collections.abc import Iterator, Mapping
from typing import Any

from pilotfish.config import upgrade_settings
from pilotfish.report import run_files
from pilotfish.store import Run

_STRONG = ("strong", "strong_digest", "revision", "remote_code", "loss", "peft")
MOST = 60  # lines per group on the page
_LISTED = ("scores", "selections")  # dozens of them, a line each
_SECTIONS = ("precision", "test", *_LISTED, "evidence", "config")
_TOLD_ELSEWHERE = {
    "audit",
    "cascade",
}  # of a line on the page: the panel on scoring has it in sentences


def provenance(run: Run) -> dict[str, Any]:
    """Sections of run.json with the pool's file digests and the strong model's."""
    read = run.store.read_json("pool/manifest.json") or {}
    trained = next(iter(run_files.trained(run).values()), {})
    return {
        "pilotfish": {"version": run.manifest.get("pilotfish")},
        "data": run.section("data"),
        "files": read.get("sources") or {},
        "pool": {name: read.get(name) for name in ("fingerprint", "schema")},
        "weak": run.section("weak"),
        "strong": {name: trained[name] for name in _STRONG if name in trained},
        **{name: upgrade_settings(run.section(name)) for name in _SECTIONS},
    }


def models(run: Run) -> dict[str, str | None]:
    """The names of both models, as given."""
    settings, weak = run.section("config"), run.section("weak")
    trained = next(iter(run_files.trained(run).values()), {})
    return {
        "weak": settings.get("weak") or weak.get("name"),
        "strong": settings.get("strong") or trained.get("strong"),
    }


def remote_code(run: Run) -> list[str]:
    """The models that brought code of their own, which was run, by name."""
    read = [run.section(name) for name in ("weak", "cheap")]
    learnt = [*run_files.trained(run).values(), *run_files.tuned(run).values()]
    told = [*read, *({"name": each.get("strong") or each.get("base"), **each} for each in learnt)]
    names = (str(each.get("name")) for each in told if each.get("remote_code"))
    return list(dict.fromkeys(names))


def listed(told: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Provenance as (name, value) lines per group for the page; what is not set is left out."""
    groups = {
        group: [(name, _line(value)) for name, value in section.items()]
        if group in _LISTED
        else list(_flat(section, ""))
        for group, section in told.items()
    }
    return {group: _short(lines) for group, lines in groups.items() if lines}


def _short(lines: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """A pool may have thousands of files; report.json has them all."""
    more = len(lines) - MOST
    return lines if more <= 0 else [*lines[:MOST], ("…", f"{more:,} more in report.json")]


def _line(told: Any) -> str:
    if isinstance(told, Mapping):
        told = {name: value for name, value in told.items() if name not in _TOLD_ELSEWHERE}
    return "; ".join(f"{name} {value}" for name, value in _flat(told, ""))


def _flat(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Nested settings as lines, `train.loss`; file names keep their dots."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        if value:
            yield path, ", ".join(str(inner) for inner in value)
    elif value is not None and value != "":
        yield path, str(value)
