"""What a run cost, and where its numbers come from: the cost ledger and the provenance."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pilotfish import flops
from pilotfish.config import upgrade_settings
from pilotfish.report import formatting, run_files
from pilotfish.store import Run

MOST_LINES = 60  # lines per group on the page
_STRONG = ("strong", "strong_digest", "revision", "remote_code", "loss", "peft")
_LISTED = ("scores", "selections")  # may have dozens of entries: one line for each
_SECTIONS = ("precision", "test", *_LISTED, "evidence", "config")
_IN_SCORING = {"audit", "cascade"}  # the scoring section has their sentences


def ledger(
    events: Sequence[Mapping[str, Any]],
    pair: tuple[str, str] = ("selected", "random"),
    *,
    times: int = 1,
) -> dict[str, Any]:
    """Return the `ledger` of report.json.

    Args:
        events: Cost lines of events.jsonl.
        pair: The arms of the verdict; making the selection is charged to the first.
        times: How many seeds made their own selection.

    Returns:
        stages, trained (each training), total, charged (what making the selection took),
        as_charged (both arms of the pair, if both were trained here) and a sentence.
    """
    stages, trained = flops.by_stage(events), flops.by_name(events, "train")
    charged = flops.charged(events)
    charged_stages = sorted({*stages} & {*flops.SELECTION_STAGES})
    return {
        "stages": [{"stage": stage, **cost.as_dict()} for stage, cost in stages.items()],
        "trained": [{"name": name, **cost.as_dict()} for name, cost in trained.items()],
        "total": sum(stages.values(), flops.Cost()).as_dict(),
        "charged": charged.as_dict(),
        "as_charged": _as_charged(trained, charged, pair),
        "sentence": _charged_sentence(charged, charged_stages, times),
    }


def _as_charged(
    trained: Mapping[str, flops.Cost], charged: flops.Cost, pair: tuple[str, str]
) -> list[dict[str, Any]]:
    lines = []
    for arm, selecting in zip(pair, (charged, None), strict=True):
        own = [cost for name, cost in trained.items() if name.rpartition(" seed ")[0] == arm]
        if not own or charged.seconds is None:
            return []
        training = sum(own, flops.Cost())
        total = training + selecting if selecting else training
        lines.append(
            {
                "arm": arm,
                "trainings": len(own),
                "training": training.seconds,
                "selecting": selecting.seconds if selecting else None,
                "seconds": total.seconds,
                "flops": total.flops,
            }
        )
    return lines


def _charged_sentence(charged: flops.Cost, stages: Sequence[str], times: int) -> str:
    if charged.seconds is None:
        return ""
    operations = f" and {formatting.power(charged.flops)} FLOPs" if charged.flops else ""
    repeated = f"; repeated for each of {times} seeds" if times > 1 else ""
    return (
        f"Making the selection took {formatting.seconds(charged.seconds)}{operations} "
        f"({', '.join(stages)}{repeated}). This is charged to the selected arm, in addition to its "
        "training."
    )


def provenance(run: Run) -> dict[str, Any]:
    """Return sections of run.json, with the digests of the data files and the strong model."""
    pool = run.store.read_json("pool/manifest.json") or {}
    trained = next(iter(run_files.trained(run).values()), {})
    return {
        "pilotfish": {"version": run.manifest.get("pilotfish")},
        "data": run.section("data"),
        "files": pool.get("sources") or {},
        "pool": {name: pool.get(name) for name in ("fingerprint", "schema")},
        "weak": run.section("weak"),
        "strong": {name: trained[name] for name in _STRONG if name in trained},
        **{name: upgrade_settings(run.section(name)) for name in _SECTIONS},
    }


def models(run: Run) -> dict[str, str | None]:
    """Return the names of the weak and the strong model, as the user gave them."""
    settings, weak = run.section("config"), run.section("weak")
    trained = next(iter(run_files.trained(run).values()), {})
    return {
        "weak": settings.get("weak") or weak.get("name"),
        "strong": settings.get("strong") or trained.get("strong"),
    }


def remote_code(run: Run) -> list[str]:
    """Return the names of the models whose own code was run."""
    scorers = [run.section(name) for name in ("weak", "cheap")]
    trained = [*run_files.trained(run).values(), *run_files.tuned(run).values()]
    named = [{"name": each.get("strong") or each.get("base"), **each} for each in trained]
    names = [str(each.get("name")) for each in (*scorers, *named) if each.get("remote_code")]
    return list(dict.fromkeys(names))


def provenance_lines(sections: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Return provenance as (name, value) lines per group for the page; empty values are left out.

    A pool may have thousands of files: a group shows at most MOST_LINES, report.json has them all.
    """
    groups = {}
    for group, section in sections.items():
        lines = list(_flat(section, ""))
        if group in _LISTED:
            lines = [(name, _line(value)) for name, value in section.items()]
        more = len(lines) - MOST_LINES
        if more > 0:
            lines = [*lines[:MOST_LINES], ("…", f"{more:,} more in report.json")]
        if lines:
            groups[group] = lines
    return groups


def _line(entry: Any) -> str:
    if isinstance(entry, Mapping):
        entry = {name: value for name, value in entry.items() if name not in _IN_SCORING}
    return "; ".join(f"{name} {value}" for name, value in _flat(entry, ""))


def _flat(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield nested settings as lines, `train.loss`; file names keep their dots."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        if value:
            yield path, ", ".join(str(inner) for inner in value)
    elif value is not None and value != "":
        yield path, str(value)
