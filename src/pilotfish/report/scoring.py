"""How the scores were computed: number format, batches, agreement with fp32, audited cuts."""

from collections.abc import Mapping, Sequence
from typing import Any

from pilotfish.report import formatting
from pilotfish.report.run_files import main_selection
from pilotfish.scoring.audit import audit_sentences
from pilotfish.store import Run

Record = Mapping[str, Any]

_BATCHING = {
    "packed": "packed: rows are concatenated without padding and do not see each other",
    "padded": "padded on the right: packing is not safe for this model",
    "masked": "padded, with an attention mask: packing is not safe for this model",
}


def scoring(run: Run) -> dict[str, Any] | None:
    """Return the `scoring` of report.json; None if no model computed the scores.

    Returns:
        Facts of the score column that the page is about, from run.json and the signal shards;
        audits: every audited selection with its sentences; sentences: of the cascade and of the
        audited cut of the selection that the page is about.
    """
    selections, scores = run.section("selections"), run.section("scores")
    name = main_selection(selections)
    wanted = [str(selections[name]["score"])] if name else sorted(scores)
    column = next((each for each in wanted if scores.get(each, {}).get("keys")), None)
    if column is None:
        return None
    facts, precision = scores[column], run.section("precision")
    if precision.get("used") != facts.get("precision"):
        precision = {}  # of a later score in another number format
    audits = [
        {"selection": each, **audit, "sentences": audit_sentences(audit)}
        for each, audit in ((key, selections[key].get("audit")) for key in sorted(selections))
        if audit
    ]
    shown = next((audit for audit in audits if audit["selection"] == name), None)
    cascade = selections.get(name or "", {}).get("cascade")
    sentences = list(cascade["sentences"]) if cascade is not None else []
    if cascade is None and "cascade" in facts:
        sentences = audit_sentences(facts["cascade"])
    return {
        "column": column,
        "precision": facts.get("precision"),
        **{key: precision.get(key) for key in ("asked", "why", "sample")},
        **_batches(run, sorted(facts["keys"].values())),
        "max_length": facts.get("max_length"),
        "agreement": (shown or {}).get("agreement") or precision.get("columns", {}).get(column),
        "remeasured": shown["walked"] + shown["audited"] if shown else None,
        "rows": run.section("pool").get("rows"),
        "sentences": [*sentences, *(shown["sentences"] if shown else [])],
        "audits": audits,
    }


def _batches(run: Run, keys: Sequence[str]) -> dict[str, Any]:
    """Return facts of the shards' manifests; `halved` counts shards redone in smaller batches."""
    parts: list[Record] = [
        run.store.read_json(str(path.relative_to(run.root))) or {}
        for key in keys
        for path in sorted(run.root.glob(f"signals/{key}/part-*.json"))
    ]
    spec: Record = parts[0]["spec"] if parts else {}
    return {
        "batching": sorted({part["batching"] for part in parts if part["batching"]}),
        **{key: spec.get(key) for key in ("token_budget", "device", "threads")},
        "parts": len(parts),
        "halved": sum(part["token_budget"] < part["spec"]["token_budget"] for part in parts),
    }


def scoring_lines(facts: Record) -> list[tuple[str, str]]:
    """Return the page's lines about scoring as (name, text), one for each known fact.

    Args:
        facts: The `scoring` of report.json.
    """
    lines: dict[str, str] = {}
    if facts["precision"] is not None:
        why = f" ({facts['why']})" if facts["why"] is not None else ""
        asked = f"; requested: {facts['asked']}" if facts["asked"] is not None else ""
        lines["Number format"] = f"{facts['precision']}{why}{asked}"
    if facts["agreement"] is not None:
        lines["Agreement with fp32"] = _agreement(facts["agreement"])
    if facts["remeasured"] is not None:
        lines["Re-measured in fp32"] = (
            f"{facts['remeasured']:,} of {formatting.whole(facts['rows'])} rows"
        )
    if facts["batching"]:
        lines["Batches"] = "; ".join(_BATCHING.get(each, each) for each in facts["batching"])
    if facts["token_budget"] is not None:
        halved = (
            f"; {facts['halved']:,} of {facts['parts']:,} parts ran out of memory and used fewer"
            if facts["halved"]
            else ""
        )
        lines["Token budget"] = f"at most {facts['token_budget']:,} tokens per batch{halved}"
    if facts["device"] is not None:
        threads = facts["threads"]
        noun = "thread" if threads == 1 else "threads"
        each = "" if threads is None else f", {threads} {noun} per forward pass"
        lines["Device"] = f"{facts['device']}{each}"
    return list(lines.items())


def _agreement(agreement: Record) -> str:
    space = " in log space" if agreement["space"] == "log" else ""
    lost = (
        f"; {agreement['lost']:,} rows were scored in one format only" if agreement["lost"] else ""
    )
    return (
        f"on {agreement['rows']:,} sampled rows: rank correlation "
        f"{formatting.decimal(agreement['spearman'], 5)}, largest difference "
        f"{formatting.measure(agreement['largest'])}{space}, overlap of the best tenth "
        f"{formatting.percent(agreement['overlap'])} "
        f"(by chance {formatting.percent(agreement['chance'])}){lost}"
    )
