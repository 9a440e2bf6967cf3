"""Measure encoded rows once each, in batches that fit the memory."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pilotfish.engine.forward import Forward, TokenQuery
from pilotfish.engine.signals import SIGNALS
from pilotfish.engine.signals.sampled import Sampled
from pilotfish.engine.signals.tokens import Column
from pilotfish.errors import OutOfMemory
from pilotfish.models import Loaded
from pilotfish.records import Ints, Need, Ragged, Texts
from pilotfish.tokenization import Encoded, Passage


class Distinct(NamedTuple):
    """n rows in u groups of equal ones: one of each group is measured, all get its numbers."""

    first: Ints  # [u] index of one row of each group
    kind: Ints  # [n] group of each row, in [0, u)
    key: tuple[bytes, ...]  # [u] digest of the group's content


def distinct(rows: Sequence[Encoded]) -> Distinct:
    """Group rows that would be measured alike.

    Equal rows have the same passage; where a row has none, the same ids and targets.
    """
    keys = []
    for row in rows:
        passage = row.read
        digest = hashlib.blake2b(len(passage.ids).to_bytes(8, "little"), digest_size=16)
        digest.update(passage.ids.tobytes())
        digest.update(np.array(passage.marks).tobytes())
        if passage.begin != passage.marks[0]:  # no prompt at all
            digest.update(b"begin")
        if row.passage is None:
            digest.update(row.target.tobytes())
        keys.append(digest.digest())
    group_of: dict[bytes, int] = {}
    first = []
    for index, key in enumerate(keys):
        if key not in group_of:
            group_of[key] = len(group_of)
            first.append(index)
    kind = np.array([group_of[key] for key in keys], dtype=np.int64)
    return Distinct(np.array(first, dtype=np.int64), kind, tuple(group_of))


def plan(
    lengths: Sequence[int],
    token_budget: int,
    *,
    tie: Sequence[bytes] | None = None,
    padded: bool = True,
    max_shared_length: int | None = None,
) -> list[Ints]:
    """Divide rows into batches, longest rows first.

    Args:
        lengths: Tokens of each row.
        token_budget: Tokens per batch; a longer row is a batch of its own.
        tie: Content digests that order rows of equal length, so that shuffled rows give the same
            batches; None: their order as given.
        padded: Whether every row of a batch costs as many tokens as its longest.
        max_shared_length: Rows longer than this share no batch.

    Returns:
        Row indices of each batch.

    Raises:
        ValueError: The budget is below 1.
    """
    if token_budget < 1:
        raise ValueError(f"token_budget must be at least 1, not {token_budget}")
    ties = tie if tie is not None else [b""] * len(lengths)
    batches: list[list[int]] = []
    used, longest, closed = token_budget, 0, False
    for row in sorted(range(len(lengths)), key=lambda i: (-lengths[i], ties[i], i)):
        length = max(lengths[row], 1)
        cost = longest if padded and used < token_budget else length
        if used + cost > token_budget or closed:
            batches.append([])
            used, longest, cost = 0, length, length
        batches[-1].append(row)
        used += cost
        closed = max_shared_length is not None and length > max_shared_length
    return [np.array(batch, dtype=np.int64) for batch in batches]


Tick = Callable[[int], None]  # called with the number of rows that a batch finished


class Measurement(NamedTuple):
    """One need of n rows, measured."""

    columns: dict[str, Column]  # [n] each; where a row has a reason: nan, 0, or an empty stretch
    reason: Texts  # [n] "" where measured
    token_budget: int  # tokens per batch that fitted into memory


def default_budget(device: torch.device) -> int:
    """Return the tokens per forward pass where the caller sets no budget."""
    return 2048 if device.type == "cpu" else 16384


def measure_rows(
    rows: Sequence[Encoded], forward: Forward, *, signal: str, token_budget: int
) -> Measurement:
    """Measure one signal of rows; see `measure_pass`."""
    need = Need(signal)
    return measure_pass({need: rows}, forward, token_budget=token_budget)[need]


def measure_pass(
    encoded: Mapping[Need, Sequence[Encoded]],
    forward: Forward,
    *,
    token_budget: int,
    tick: Tick | None = None,
) -> dict[Need, Measurement]:
    """Measure needs that read the same passages, all with one forward pass.

    The passages alone decide which rows share a batch, and so every bit. When memory runs out, all
    rows are measured again with half the budget, so the plan stays a function of rows and budget.
    A row too big for a batch of its own gets the reason `oom_single_row`; one with an id that the
    model has no embedding for gets `model_error`.

    Args:
        encoded: The same n rows per need; their passages are equal, their targets differ.
        forward: The model.
        token_budget: Tokens per batch.
        tick: Called after each batch.
    """
    rows = next(iter(encoded.values()))
    failure = np.full(len(rows), "", dtype=object)  # [n] why the model cannot read a row
    for index, row in enumerate(rows):
        if not len(row.read.ids):
            failure[index] = "nothing"  # the row has a reason of its own
        elif row.read.ids.max() >= forward.vocabulary:
            failure[index] = "model_error"  # on a GPU it would crash the device, not one row
    readable = np.flatnonzero(failure == "")
    groups = distinct([rows[i] for i in readable.tolist()])
    firsts: list[int] = readable[groups.first].tolist()  # [u] one row of each group
    passages = [rows[i].read for i in firsts]
    repeats = np.bincount(groups.kind, minlength=len(passages))
    while True:
        batches = _batches(passages, groups.key, forward, token_budget)
        queries = {need: _query(need, [of[i] for i in firsts]) for need, of in encoded.items()}
        too_big = _run(batches, passages, repeats, forward, list(queries.values()), tick)
        if too_big is not None:
            break
        token_budget //= 2
    failure[readable[np.isin(groups.kind, too_big)]] = "oom_single_row"
    source = np.full(len(rows), -1)  # [n] group of each row
    source[readable] = groups.kind
    return {
        need: _measurement(query, encoded[need], failure, source, token_budget)
        for need, query in queries.items()
    }


def _batches(
    passages: Sequence[Passage], keys: Sequence[bytes], forward: Forward, token_budget: int
) -> list[Ints]:
    if not passages:  # nothing to read: the probe for the batching mode must not run
        return []
    return plan(
        [len(passage.ids) for passage in passages],
        token_budget,
        tie=keys,
        padded=forward.mode.batching != "packed",
        max_shared_length=forward.max_shared_length,
    )


def _query(need: Need, rows: Sequence[Encoded]) -> TokenQuery:
    """Start the reducer of a need for one row of each group."""
    reducer = SIGNALS[need.signal](need.size)
    if isinstance(reducer, Sampled):
        reducer.seed = need.seed
    reducer.start(len(rows))
    targets = []
    for row in rows:  # a need may read a beginning of the passage only
        target = np.zeros(len(row.read.ids), dtype=bool)
        target[: len(row.target)] = row.target
        targets.append(target)
    return TokenQuery(reducer, targets)


def _run(
    batches: Sequence[Ints],
    passages: Sequence[Passage],
    repeats: Ints,
    forward: Forward,
    queries: Sequence[TokenQuery],
    tick: Tick | None,
) -> list[int] | None:
    """Run all batches.

    Args:
        batches: Indices into `passages`.
        passages: One per group of equal rows.
        repeats: [u] rows of each group, for `tick`.
        forward: The model.
        queries: The reducers that take in the tokens.
        tick: Called after each batch with its number of rows.

    Returns:
        The passages too big for a batch of their own; None as soon as a larger batch does not fit.
    """
    too_big: list[int] = []
    for batch in batches:
        if not _fits(forward, [passages[i] for i in batch], batch, queries):
            if len(batch) > 1:
                return None
            too_big.append(int(batch[0]))
        if tick is not None:
            tick(int(repeats[batch].sum()))
    return too_big


def _fits(
    forward: Forward, passages: Sequence[Passage], batch: Ints, queries: Sequence[TokenQuery]
) -> bool:
    """Run one batch; return False where there is not enough memory for it."""
    try:
        forward.run(passages, batch, queries)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    else:
        return True
    # Outside the handler: until here the exception kept the batch's tensors alive.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a device or the machine has no memory left."""
    return OutOfMemory.of(error) is not None


def _measurement(
    query: TokenQuery, rows: Sequence[Encoded], failure: Texts, source: Ints, token_budget: int
) -> Measurement:
    """Give each row the numbers of its group, or the reason why it has none."""
    reason: Texts = np.array([row.reason for row in rows], dtype=object)
    reason = np.where((reason == "") & (failure != "nothing"), failure, reason)
    columns = query.reducer.finish()
    total = _expand(columns["total"], source, source >= 0)
    reason[(reason == "") & ~np.isfinite(np.asarray(total))] = "nonfinite"
    usable = reason == ""
    wide = {name: _expand(values, source, usable) for name, values in columns.items()}
    return Measurement(wide, reason, token_budget)


def _expand(values: Column, source: Ints, usable: NDArray[np.bool_]) -> Column:
    """Return values[source] of the usable rows; nan, 0 or an empty stretch for the others."""
    if isinstance(values, Ragged):
        empty = values.flat[:0]
        pieces = [values[k] if ok else empty for k, ok in zip(source, usable, strict=True)]
        return Ragged(np.concatenate([empty, *pieces]), np.cumsum([0, *map(len, pieces)]))
    blank = np.nan if values.dtype.kind == "f" else 0
    wide = np.full((len(source), *values.shape[1:]), blank, dtype=values.dtype)
    wide[usable] = values[source[usable]]
    return wide


# A CPU gains nothing beyond this (its caches are full), and a GPU little beyond the other.
_MOST = {"cpu": 2048}
_MOST_ELSEWHERE = 65536
_LEAST = 64
_LAPTOP = 4 * 2**30
_SHARE = 0.4  # of the free memory: the budget must also fit tomorrow, next to other processes


def find_budget(loaded: Loaded) -> int:
    """Return tokens per forward pass: a power of two that part of the free memory surely holds.

    A run finds it once and keeps it in run.json, because the last digits of scores depend on it.
    """
    device = loaded.device
    most = _MOST.get(device.type, _MOST_ELSEWHERE)
    fits = int(_SHARE * free_bytes(device) / bytes_per_token(loaded))
    budget = _LEAST
    while budget * 2 <= min(most, fits):
        budget *= 2
    return budget


def bytes_per_token(loaded: Loaded) -> int:
    """Return about how much memory one token takes at the widest point of a forward pass."""
    config = loaded.model.config.get_text_config()
    hidden = int(config.hidden_size)
    names = ("intermediate_size", "ffn_dim", "n_inner")
    widths = (getattr(config, name, None) for name in names)
    wide = next((int(width) for width in widths if width), 4 * hidden)
    element = torch.empty((), dtype=loaded.dtype).element_size()
    # residual, normed, q, k, v, output and their copies for attention; up, gate, activated
    return element * (12 * hidden + 4 * wide)


def free_bytes(device: torch.device) -> int:
    """Return the bytes free on a GPU, else in the machine's memory."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:  # not Linux: assume a laptop
        return _LAPTOP
    known = dict(line.split(":", 1) for line in text.splitlines())
    return int(known["MemAvailable"].split()[0]) * 1024
