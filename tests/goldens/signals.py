"""Signals of tiny models whose weights are exact on every machine: ids, marks, numbers, reasons."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pilotfish.engine.int8.linear import Int8Linear
from pilotfish.engine.scorer import LENGTHS
from pilotfish.models import Loaded
from pilotfish.number_formats import int8_supported
from pilotfish.records import Example, Need, Turn
from pilotfish.store import Store
from pilotfish.tokenization import Encoded, encode_needs
from tests.engine.pool_scoring import measure
from tests.engine.shapes import build
from tests.tiny.models import byte_tokenizer
from tests.tiny.pools import ListPool, asked

MAX_LENGTH = 72
TOKEN_BUDGET = 256
KEPT = 24  # numbers kept of a long column, evenly spaced
# llama: a chat template and a start token; gpt2: neither; gemma2: capped logits, padded batches
MODELS = {"llama": {"bos": True, "chat": True}, "gpt2": {}, "gemma2": {"bos": True}}
ROWS = [
    asked("short", "Name a river.", "The Nile."),
    asked("one-token", "Pick a letter.", "q"),
    asked("empty", "Say nothing.", ""),
    asked("long-response", "Count.", " ".join(map(str, range(40)))),
    asked("long-prompt", "Repeat: " + "la " * 40, "la"),
    asked("unicode", "Übersetze: 水", "água — вода\n"),
    Example(
        "dialogue", "s", 6,
        turns=(
            Turn("system", "Be brief."), Turn("user", "Hi"), Turn("assistant", "Yes?"),
            Turn("user", "2+2"), Turn("assistant", "4"),
        ),
    ),
    Example("label", "s", 7, text="a fine film", label="good"),
    Example("text", "s", 8, text="Plain text, all of it a response."),
]  # fmt: skip

_IN_TOKENS = {"id", "n_prompt", "n_response", "truncated"}  # columns that `_tokens` holds

FORMS = ("template", "plain", "superfiltering")
SCORED = [
    *(Need("nll", text=form, given=given) for form in FORMS for given in ("prompt", "nothing")),
    *(Need("nll", text=form, span="full") for form in FORMS),
    Need("nll", aligned=False),
    Need("nll", end=True),
    Need("nll", given="nothing", end=True),
    Need("token_nll"),
    Need("token_nll", given="nothing"),
    Need("entropy"),
    Need("entropy", given="nothing", span="full"),
    Need("top1"),
    Need("topk", size=4),
    Need("hidden"),
    Need("hidden", span="full", end=True),
    Need("dense"),
    Need("sampled", size=6, seed=3),
    LENGTHS,
]
TAUGHT = [Need(name, span="supervised", size=4 * (name in ("topk", "sampled")))
          for name in ("nll", "topk", "dense", "sampled")]  # fmt: skip


def cases() -> dict[str, Any]:
    """Return what the engine makes of ROWS now: case name -> JSON-ready facts."""
    found: dict[str, Any] = {}
    for shape, tokens in MODELS.items():
        loaded = exact(shape, **tokens)
        found |= _tokens(loaded)
        for needs in (SCORED, TAUGHT):
            found |= _measured(loaded, needs)
    return found | _int8()


def exact(shape: str, **tokens: bool) -> Loaded:
    """Return a tiny model of tests/engine/shapes.py with the same fp32 weights on every machine.

    torch's own random numbers differ in their last bits from one instruction set to another.
    """
    loaded = build(shape)
    for name, weight in loaded.model.named_parameters():
        centre = 1.0 if weight.dim() == 1 and "norm" in name.replace("ln_", "norm") else 0.0
        width = 0.1 if weight.dim() == 1 else 0.5
        weight.data.copy_(centre + width * uniform(f"{shape}.{name}", weight.shape))
    return replace(loaded, tokenizer=byte_tokenizer(**tokens))


def uniform(name: str, shape: Sequence[int]) -> torch.Tensor:
    """Return fp32 numbers in [-1, 1) that depend on the name alone."""
    key = np.frombuffer(blake2b(name.encode(), digest_size=16).digest(), dtype=np.uint64)
    drawn = np.random.Generator(np.random.Philox(key=key)).random(tuple(shape))
    return torch.from_numpy((2 * drawn - 1).astype(np.float32))


def _tokens(loaded: Loaded) -> dict[str, Any]:
    """The ids of every row as one pass reads them, and per need which of them are scored."""
    found: dict[str, Any] = {}
    needs = [need for need in (*SCORED, *TAUGHT) if need != LENGTHS]
    for need, rows in encode_needs(ROWS, needs, loaded.tokenizer, MAX_LENGTH).items():
        span = "supervised" if need.span == "supervised" else need.given
        case = f"{loaded.name}/tokens/{need.text}.{span}"
        facts = found.setdefault(case, {"ids": [row.read.ids.tolist() for row in rows]})
        facts[need.name] = [_marks(row) for row in rows]
    return found


def _marks(row: Encoded) -> list[Any]:
    """Prompt and response tokens, whether it was cut, the reason, and the scored stretches."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row.target.astype(int), [0]])))
    return [row.n_prompt, row.n_response, row.truncated, row.reason, edges.tolist()]


def _measured(loaded: Loaded, needs: Sequence[Need]) -> dict[str, Any]:
    """Every column that a measurement writes, read back from its file."""
    pool: Any = ListPool(ROWS)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        how = {"max_length": MAX_LENGTH, "token_budget": TOKEN_BUDGET}
        keys = measure(pool, needs, loaded, store, **how)
        tables = {
            need.name: pq.read_table(store.path(f"signals/{key}/part-00000.parquet"))
            for need, key in keys.items()
        }
    return {f"{loaded.name}/{name}": dict(_facts(table)) for name, table in sorted(tables.items())}


def _facts(table: pa.Table) -> Iterator[tuple[str, Any]]:
    yield "columns", [f"{field.name}: {field.type}" for field in table.schema]
    for name in table.column_names:
        if name in _IN_TOKENS:
            continue
        column = table[name].combine_chunks()
        kind = column.type
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            yield f"{name} lengths", [None if x is None else len(x) for x in column.to_pylist()]
        elif pa.types.is_fixed_size_list(kind):
            yield f"{name} width", kind.list_size
        while pa.types.is_nested(column.type):
            column = column.flatten()
        yield from _values(name, column)


def _values(name: str, column: Any) -> Iterator[tuple[str, Any]]:
    """Some of a column's numbers, spread evenly, and the sum of all."""
    kind, values = column.type, column.to_pylist()
    step = max(1, len(values) // KEPT)
    if not pa.types.is_floating(kind):
        yield name, values[::step]
        if step > 1 and pa.types.is_integer(kind):
            yield f"{name} sum", sum(values)
        return
    mark = "~~" if kind == pa.float16() else "~"
    numbers = [None if x is None or not np.isfinite(float(x)) else float(x) for x in values]
    yield f"{name} {mark}", [None if x is None else float(f"{x:.8g}") for x in numbers[::step]]
    if step > 1:
        yield (
            f"{name} mean {mark}",
            [float(f"{np.mean([x for x in numbers if x is not None]):.8g}")],
        )


def _int8() -> dict[str, Any]:
    """int8: products of exact inputs on any CPU, and whole models loosely; None where unsupported.

    Inside a model a last bit of fp32 decides how a number is rounded to int8, and CPUs differ.
    """
    names = ("int8/linear", *(f"int8/{shape}" for shape in ("llama", "gpt2")))
    if not int8_supported():
        return dict.fromkeys(names)
    with torch.inference_mode():
        layer = Int8Linear(uniform("weight", (48, 64)), uniform("bias", (48,)))
        out = layer(3 * uniform("input", (4, 64))).flatten().tolist()
    found: dict[str, Any] = {names[0]: {"output ~": [float(f"{x:.8g}") for x in out[::4]]}}
    for shape in ("llama", "gpt2"):
        loaded = replace(exact(shape, **MODELS[shape]), precision="int8")
        facts: Mapping[str, Any] = _measured(loaded, [Need("nll")])[f"{shape}/{Need('nll').name}"]
        exact_keys = {key: value for key, value in facts.items() if "~" not in key}
        found[f"int8/{shape}"] = {**exact_keys, "total ~3%": facts["total ~"]}
    return found
