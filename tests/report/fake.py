"""A made-up run folder: everything a report reads, without a model ever having run."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pilotfish.data import Pool
from pilotfish.store import Run
from tests.reading import read

ARMS = {
    "base": 0.05,
    "weak": 0.62,
    "random": 0.48,
    "length_matched": 0.50,
    "longest": 0.40,
    "full": 0.52,
    "selected": 0.86,
    "trusted": 0.78,
    "trusted_random": 0.67,
    "trusted_full": 0.59,
    "trusted_selected": 0.90,
    "relabel_all": 0.61,
}
SEEDS = (0, 1, 2)
SCORE = "perplexity(direction=low)"
TASKS = ("reverse", "sort", "upper", "add")
Texts = Callable[[int], tuple[str, str]]


def plain(row: int) -> tuple[str, str]:
    """(prompt, completion) of a row, of very unequal lengths."""
    task, word = TASKS[row % 4], f"word{row:04d}"
    return f"{task} the text: {word}", " ".join([word[::-1]] * (1 + row * row % 23))


def rows(folder: Path, count: int, texts: Texts = plain, *, sources: Sequence[str] = ()) -> Path:
    """A data folder with the rows dealt out over files."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    names = sources or ("crowd.jsonl", "mined.jsonl", "template.jsonl")
    files: dict[str, list[str]] = {name: [] for name in names}
    for row in range(count):
        prompt, completion = texts(row)
        line = json.dumps({"prompt": prompt, "completion": completion}, ensure_ascii=True)
        files[names[min(len(names) - 1, row % 5)]].append(line)
    for name, lines in files.items():
        (data / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return data


def pooled(folder: Path, count: int = 1000, texts: Texts = plain, **kwargs: Any) -> Run:
    """A run that was read and nothing else."""
    data = rows(folder, count, texts, **kwargs)
    run = Run(folder / "run")
    pool = read(data, run.store, max_bad_rate=1.0)
    facts = {key: pool.manifest[key] for key in ("fingerprint", "rows", "schema", "dropped")}
    run.update(
        status="running",
        data={"data": "data", "limit": None},
        pool={**facts, "quarantined": pool.manifest["quarantined"]},
    )
    return run


def scored(run: Run, *, seed: int = 0, values: Any = None, name: str = SCORE) -> Run:
    """Add a score column; some rows are unscorable for two reasons."""
    pool = Pool.open(run.store)
    origin, n = pool.columns("id", "source", "row"), len(pool)
    rng = np.random.default_rng(seed)
    score = np.exp(rng.normal(0.4, 0.8, n)) if values is None else np.asarray(values, float)
    lengths = np.maximum(1, rng.lognormal(3, 0.7, n) * (0.6 + 0.4 * np.argsort(score) / n)).astype(
        int
    )
    reason = np.full(n, None, dtype=object)
    if values is None:
        reason[7::41], reason[11::97] = "empty_response", "prompt_over_limit"
    reason[~np.isfinite(score)] = "nonfinite"
    bad = reason != None  # noqa: E711
    table = pa.table(
        {
            "id": pa.array(origin["id"], pa.string()),
            "source": pa.array(origin["source"], pa.string()),
            "row": pa.array(origin["row"], pa.int64()),
            "n_prompt_tokens": pa.array(rng.integers(3, 40, n), pa.int64()),
            "n_response_tokens": pa.array(np.where(bad, 0, lengths), pa.int64()),
            "truncated": pa.array(rng.random(n) < 0.04, pa.bool_()),
            name: pa.array(np.where(bad, 0.0, score), pa.float64(), mask=bad),
            f"{name}_status": pa.array(np.where(bad, "unscorable", "ok").astype(object)),
            f"{name}_reason": pa.array(reason, pa.string()),
        }
    )
    with run.store.attempt("scores.json") as attempt:
        pq.write_table(table, attempt.path("scores.parquet"))
        attempt.meta = {"rows": n}
    known = run.section("scores")
    told = {"method": name, "direction": "low", "scorable": int((~bad).sum()), "seed": 0}
    run.update(
        scores={**known, name: told},
        weak={"name": "models/weak", "digest": "a" * 64, "trusted": "b" * 64, "max_length": 512},
    )
    run.cost("score", name, seconds=41.25, rows=n, tokens=float(n * 40), flops=3.1e12)
    return run


def selected(run: Run, *, share: float = 0.3, name: str = SCORE) -> Run:
    """Add the selection (lowest scores) and a random control."""
    table = pq.read_table(run.store.path("scores.parquet"))
    score = np.asarray([np.nan if v is None else v for v in table.column(name).to_pylist()])
    why = table.column(f"{name}_reason").to_pylist()
    k = int(len(score) * share)
    usable = np.flatnonzero(np.isfinite(score))
    draw = np.random.default_rng(1).permutation(usable)
    _select(run, "selected", usable[np.argsort(score[usable], kind="stable")][:k], score, why, name)
    _select(run, "random-0", draw[:k], score, why, "random")
    return run


def _select(
    run: Run, name: str, order: Any, score: Any, why: Sequence[str | None], method: str
) -> None:
    table = pq.read_table(run.store.path("scores.parquet"), columns=["id", "source", "row"])
    n = len(score)
    kept = np.zeros(n, dtype=bool)
    kept[order] = True
    rank = np.zeros(n, dtype=np.int64)
    rank[order] = np.arange(len(order))
    reason = [
        "kept" if kept[i] else f"unscorable:{why[i]}" if why[i] else "over_budget" for i in range(n)
    ]
    table = table.append_column("kept", pa.array(kept))
    table = table.append_column("rank", pa.array(rank, pa.int64(), mask=~kept))
    table = table.append_column("reason", pa.array(reason, pa.string()))
    finite = np.isfinite(score)
    column = pa.array(np.where(finite, score, 0.0), pa.float64(), mask=~finite)
    table = table.append_column("score", column)
    with run.store.attempt(f"selections/{name}/manifest.json") as attempt:
        pq.write_table(table, attempt.path(f"selections/{name}/decisions.parquet"))
        attempt.meta = {"name": name}
    facts = {
        "score": SCORE if method == "random" else method, "method": method, "budget": "30%",
        "unit": "rows", "requested": len(order), "delivered": len(order),
        "tokens": 12_345, "seed": 0, "stale": [],
    }  # fmt: skip
    run.update(selections={**run.section("selections"), name: facts})


def planned(
    run: Run, arms: Sequence[str] = tuple(ARMS), seeds: Sequence[int] = SEEDS, level: str = "full"
) -> Run:
    """Write down which arms and seeds the run is to have."""
    run.update(
        evidence={"level": level, "seeds": list(seeds), "arms": list(arms), "steps": 140},
        config={"weak": "models/weak", "strong": "models/strong", "trusted": "trusted.jsonl",
                "budget": "30%", "train": {"loss": "lm", "batch_size": 16}},
        test={"data": "test.jsonl", "rows": 400, "held_out": "test", "metric": "exact_match"},
    )  # fmt: skip
    return run


def trained(run: Run, arm: str, seed: int, *, rows: int = 300) -> None:
    """One training manifest."""
    manifest = f"train/{arm}/seed-{seed}/manifest.json"
    with run.store.attempt(manifest) as attempt:
        attempt.path(f"train/{arm}/seed-{seed}/log.jsonl").write_text("{}\n")
        attempt.meta = {
            "arm": arm, "seed": seed, "strong": "models/strong", "strong_digest": "c" * 64,
            "rows": rows, "trusted_rows": 60 if arm.startswith("trusted") else 0, "tokens": 9_000,
            "steps": 140, "loss": "lm",
        }  # fmt: skip
    run.cost("train", f"{arm} seed {seed}", seconds=12.5, rows=300, tokens=27e3, flops=4.2e12)


def judged(run: Run, arm: str, seed: int, level: float, *, items: int = 400) -> None:
    """One file of judged items at about a level of exact match."""
    rng = np.random.default_rng([seed, *arm.encode()])
    right = rng.random(items) < level + rng.normal(0, 0.012)
    lines = [
        {
            "id": f"t{i:04d}",
            "metric": "exact_match",
            "value": float(ok),
            "output": "x",
            "expected": "y",
        }
        for i, ok in enumerate(right)
    ]
    with run.store.attempt(f"judge/{arm}/seed-{seed}.json") as attempt:
        path = attempt.path(f"judge/{arm}/seed-{seed}.jsonl")
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        attempt.meta = {
            "arm": arm, "seed": seed, "metric": "exact_match", "higher_is_better": True,
            "items": items, "model_digest": "d" * 64, "test_fingerprint": "e" * 64,
        }  # fmt: skip
    run.cost("judge", f"{arm} seed {seed}", seconds=2.25, rows=items)


def complete(folder: Path, levels: dict[str, float] | None = None, **kwargs: Any) -> Run:
    """Twelve arms at three seeds over 1,000 rows."""
    run = planned(selected(scored(pooled(folder, **kwargs))))
    for arm, level in (levels or ARMS).items():
        for seed in SEEDS[: 1 if arm == "base" else None]:
            if arm not in ("base", "weak"):
                trained(run, arm, seed)
            judged(run, arm, seed, level)
    run.update(status="complete")
    return run


def fast(run: Run, *, name: str = SCORE, batching: str = "packed") -> Run:
    """Say that the scores were made in int8, and that the selection's cut was put right."""
    key = "nll.template.prompt.response.every-0123456789abcdef"
    spec = {"token_budget": 2048, "device": "cpu", "threads": 2, "precision": "int8"}
    for shard, budget in enumerate((2048, 1024)):
        with run.store.attempt(f"signals/{key}/part-{shard:05d}.json") as attempt:
            attempt.path(f"signals/{key}/part-{shard:05d}.parquet").write_bytes(b"")
            attempt.meta = {"spec": spec, "token_budget": budget, "batching": batching}
    scores, selections = run.section("scores"), run.section("selections")
    agreed = {
        "rows": 200, "lost": 0, "spearman": 0.99995, "largest": 6e-4, "rms": 2e-4, "overlap": 1.0,
        "chance": 0.1, "space": "log",
    }  # fmt: skip
    facts = {"precision": "int8", "keys": {key.partition("-")[0]: key}, "max_length": 512}
    run.update(
        scores={**scores, name: {**scores[name], **facts}},
        precision={
            "asked": "auto", "used": "int8", "why": "int8 is faster on this CPU", "sample": 200,
            "token_budget": 2048, "columns": {name: agreed},
        },
        selections={**selections, "selected": {**selections["selected"], "audit": audit(agreed)}},
    )  # fmt: skip
    return run


def audit(agreed: dict[str, Any]) -> dict[str, Any]:
    """What `pilotfish.scoring.audit.cut_facts` keeps of 1,000 rows."""
    return {
        "kind": "audited_cut", "precision": "int8", "reference": "fp32", "token_budget": 2048,
        "agreement": agreed, "rule": {"clean": 3}, "cuts": ["budget", "gate < 1"], "rows": 1000,
        "walked": 90, "blocks": 12, "flips": 4, "swapped": 3, "audited": 300, "audit_flips": 0,
        "left": 610, "bound": 0.00994, "confidence": 0.95,
    }  # fmt: skip
