"""How the scores were computed: number format, batches, agreement with fp32, audited cuts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pilotfish.report import formatting
from pilotfish.report.run_files import main_selection
from pilotfish.scoring.audit import audit_sentences as audit_words
from pilotfish.store import Run

Record = Mapping[str, Any]

_BATCHING = {
    "packed": "packed: rows lie end to end, none sees another, nothing is padded",
    "padded": "padded on the right: the model could not be packed safely",
    "masked": "padded, with a mask: the model could not be packed safely",
}


def scoring(run: Run) -> dict[str, Any] | None:
    """What run.json and the parts of the shown score say of its making; None where no model read.

    sentences: of the cascade and of the audited cut of the selection the page is about; `audits`
    has all of the latter.
    """
    selections, scores = run.section("selections"), run.section("scores")
    name = main_selection(selections)
    wanted = [str(selections[name]["score"])] if name else sorted(scores)
    column = next((each for each in wanted if scores.get(each, {}).get("keys")), None)
    if column is None:
        return None
    facts, settled = scores[column], run.section("precision")
    if settled.get("used") != facts.get("precision"):
        settled = {}  # of a later score, made in another format
    audits = _audits(selections)
    shown = next((audit for audit in audits if audit["selection"] == name), None)
    return {
        "column": column,
        "precision": facts.get("precision"),
        **{key: settled.get(key) for key in ("asked", "why", "sample")},
        **_batches(run, sorted(facts["keys"].values())),
        "max_length": facts.get("max_length"),
        "agreement": (shown or {}).get("agreement") or settled.get("columns", {}).get(column),
        "remeasured": shown["walked"] + shown["audited"] if shown else None,
        "rows": run.section("pool").get("rows"),
        "sentences": [*_cascade(selections, name, facts), *(shown["sentences"] if shown else [])],
        "audits": audits,
    }


def _audits(selections: Mapping[str, Record]) -> list[dict[str, Any]]:
    """The audit of every selection that has one, with its sentences."""
    found = ((name, facts.get("audit")) for name, facts in sorted(selections.items()))
    return [
        {"selection": name, **audit, "sentences": audit_words(audit)}
        for name, audit in found
        if audit
    ]


def _cascade(selections: Mapping[str, Record], name: str | None, facts: Record) -> list[str]:
    """What a cascade found of the intended model's picks: of the selection, else of the score."""
    picked = selections.get(name or "", {}).get("cascade")
    if picked is not None:
        return list(picked["sentences"])
    return audit_words(facts["cascade"]) if "cascade" in facts else []


def _batches(run: Run, keys: Sequence[str]) -> dict[str, Any]:
    """What the manifests of the parts say; `halved`: parts redone with fewer tokens a batch."""
    parts = [part for key in keys for part in _parts(run, key)]
    specs = [part["spec"] for part in parts[:1]]
    return {
        "batching": sorted({part["batching"] for part in parts if part["batching"]}),
        "token_budget": specs[0]["token_budget"] if specs else None,
        "device": specs[0]["device"] if specs else None,
        "threads": specs[0]["threads"] if specs else None,
        "parts": len(parts),
        "halved": sum(part["token_budget"] < part["spec"]["token_budget"] for part in parts),
    }


def _parts(run: Run, key: str) -> Iterator[Record]:
    for path in sorted(run.root.glob(f"signals/{key}/part-*.json")):
        yield run.store.read_json(str(path.relative_to(run.root))) or {}


def scoring_lines(told: Record) -> list[tuple[str, str]]:
    """(name, text) lines of the page, one for each thing that is known."""
    lines = [
        ("Number format", _format(told)),
        ("Agreement with fp32", agreement_words(told["agreement"])),
        ("Measured again in fp32", _again(told)),
        ("Batches", _batching(told)),
        ("Token budget", _budget(told)),
        ("Device", _device(told)),
    ]
    return [(name, text) for name, text in lines if text is not None]


def _format(told: Record) -> str | None:
    if told["precision"] is None:
        return None
    asked = f"; asked for: {told['asked']}" if told["asked"] is not None else ""
    why = f" ({told['why']})" if told["why"] is not None else ""
    return f"{told['precision']}{why}{asked}"


def agreement_words(agreed: Record | None) -> str | None:
    """The measured agreement in one line; None where nothing was compared."""
    if agreed is None:
        return None
    space = " in log space" if agreed["space"] == "log" else ""
    lost = f"; {agreed['lost']:,} rows were scored by one alone" if agreed["lost"] else ""
    return (
        f"on {agreed['rows']:,} sampled rows: rank correlation "
        f"{formatting.decimal(agreed['spearman'], 5)}, largest difference "
        f"{formatting.measure(agreed['largest'])}{space}, best tenth shared "
        f"{formatting.percent(agreed['overlap'])} "
        f"(by chance {formatting.percent(agreed['chance'])}){lost}"
    )


def _again(told: Record) -> str | None:
    if told["remeasured"] is None:
        return None
    return f"{told['remeasured']:,} of {formatting.whole(told['rows'])} rows"


def _batching(told: Record) -> str | None:
    known = [_BATCHING.get(each, each) for each in told["batching"]]
    return "; ".join(known) if known else None


def _budget(told: Record) -> str | None:
    if told["token_budget"] is None:
        return None
    halved = f"; {told['halved']:,} of {told['parts']:,} parts ran out of memory and took fewer"
    return f"at most {told['token_budget']:,} tokens a batch" + halved * bool(told["halved"])


def _device(told: Record) -> str | None:
    if told["device"] is None:
        return None
    threads = told["threads"]
    of = "" if threads is None else f", {threads} {'thread' if threads == 1 else 'threads'} a pass"
    return f"{told['device']}{of}"
