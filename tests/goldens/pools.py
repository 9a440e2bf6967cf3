"""Pools read from small files of every schema: ids, digests, reasons, fingerprints, all exact."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pilotfish.store import Store
from tests.reading import read

_TALK = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello — 水"}]
_MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "4"},
]
_ALPACA = {"instruction": "Name a river", "input": "in Africa", "output": "The Nile", "tag": 7}
_FILES: dict[str, list[dict[str, Any]]] = {
    "alpaca": [_ALPACA, {**_ALPACA, "input": ""}, _ALPACA, {"instruction": "", "output": ""}],
    "sharegpt": [{"conversations": _TALK}, {"conversations": _TALK[:1]}],
    "messages": [{"messages": _MESSAGES, "id": "mine"}, {"messages": _MESSAGES[1:]}],
    "pairs": [{"prompt": f"say {i}", "completion": "word " * i} for i in range(4)],
    "labelled": [{"text": "a fine film", "label": "good"}, {"text": "dull", "label": "bad"}],
    "plain": [{"text": "One line."}, {"text": "Another\nline."}],
}


def cases() -> dict[str, Any]:
    """Return what reading makes of the files now: case name -> JSON-ready facts."""
    with tempfile.TemporaryDirectory() as folder:
        return {name: _pool(Path(folder), name, records) for name, records in _FILES.items()}


def _pool(folder: Path, name: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    data = folder / f"{name}.jsonl"
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    data.write_text("\n".join([*lines, "{broken", ""]), encoding="utf-8")
    store = Store(folder / name)
    pool = read(data, store, max_bad_rate=1.0)
    table = pq.read_table(store.path(pool.manifest["shards"][0]["file"]))
    refused = store.path("pool/quarantine.jsonl").read_text(encoding="utf-8").splitlines()
    return {
        "fingerprint": pool.fingerprint,
        "columns": [f"{field.name}: {field.type}" for field in table.schema],
        "rows": table.to_pylist(),
        "quarantined": [[json.loads(line)[key] for key in ("row", "reason")] for line in refused],
    }
