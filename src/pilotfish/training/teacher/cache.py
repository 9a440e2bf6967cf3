"""A stored teacher: what the weak model says of an arm's rows, captured once, token by token."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.config import TrainConfig
from pilotfish.data.run_pool import fingerprint
from pilotfish.errors import DamagedRun, DataError, UsageError
from pilotfish.flops import charged_flops
from pilotfish.progress import SILENT, Progress
from pilotfish.records import Example, Measured, Need
from pilotfish.store import Run

if TYPE_CHECKING:
    from pilotfish.models import Loaded
    from pilotfish.tokenization import Encoded
    from pilotfish.training.teacher.outputs import TeacherOutputs

DENSE_MOST = 4 * 2**30  # bytes of whole distributions that are still stored, and held in memory
SHARD_ROWS = 2000
SHARD_BYTES = 256 * 2**20

# Per kind: the names of its arrays, and the columns of the signal that they are.
_ARRAYS = {
    "topk": {"ids": "top_ids", "logs": "top_logs", "rest": "rest"},
    "dense": {"logits": "logs"},
    "sampled": {"ids": "draw_ids", "weights": "draw_weights"},
}


def cached_teacher_outputs(
    run: Run,
    rows: Sequence[Example],
    teacher: "Loaded",
    config: TrainConfig,
    *,
    strong: str,
    seed: int = 0,
    progress: Progress = SILENT,
) -> dict[str, "TeacherOutputs"]:
    """What the teacher says at every token that training `strong` on `rows` learns, by row name.

    Only these rows are read, in shards of their own (a pool of which a tenth is learnt is not
    captured); arms, seeds and losses that learn the same rows share what is stored. Trusted rows
    stand apart from the others, for arms that learn both. seed: of the draws of kind `sampled`.

    Raises UsageError where tokenizers differ, a row is too long for the teacher, or whole
    distributions would fill more than `DENSE_MOST` bytes; DataError for rows that it cannot read.
    """
    capture = _prepared(run, teacher, config, strong=strong, seed=seed, progress=progress)
    groups = [capture.shelf(group) for group in _apart(rows)]
    capture.check_size(sum(int(shelf.learnt.sum()) for shelf in groups))
    taught: dict[str, TeacherOutputs] = {}
    for shelf in groups:
        taught |= capture.of(shelf)
    return taught


def captured_as(config: TrainConfig, strong: str, seed: int) -> dict[str, Any]:
    """What decides a stored teacher beside its weights and rows, in plain words."""
    from pilotfish.models import load_tokenizer
    from pilotfish.tokenization import template_digest

    need = _need(config, seed)
    return {"need": need.name, "template": template_digest(load_tokenizer(strong), need.text)}


def _need(config: TrainConfig, seed: int) -> Need:
    kind = config.teacher_kind
    return Need(
        kind, span="supervised", size=0 if kind == "dense" else config.teacher_top_k,
        seed=seed if kind == "sampled" else 0,
    )  # fmt: skip


def _apart(rows: Sequence[Example]) -> list[list[Example]]:
    """Rows of the pool, and the trusted ones that many an arm adds."""
    groups: tuple[list[Example], list[Example]] = ([], [])
    for row in rows:
        groups[row.id.startswith("trusted:")].append(row)
    return [group for group in groups if group]


@dataclass(frozen=True, eq=False)
class Shelf:
    """Rows in memory, cut into shards; their order is that of their content."""

    rows: list[Example]
    encoded: "list[Encoded]"
    edges: list[int]  # where shards begin, and the end
    fingerprint: str

    @classmethod
    def of(
        cls, rows: Sequence[Example], encoded: "Sequence[Encoded]", bytes_per_token: int
    ) -> "Shelf":
        """Shards of at most `SHARD_ROWS` rows that store at most `SHARD_BYTES`, or one row."""
        order = sorted(range(len(rows)), key=lambda i: (rows[i].digest, rows[i].id))
        edges, held = [0], 0
        for place, index in enumerate(order):
            size = encoded[index].n_response * bytes_per_token
            if place - edges[-1] >= SHARD_ROWS or (place > edges[-1] and held + size > SHARD_BYTES):
                edges.append(place)
                held = 0
            held += size
        edges = [*edges, len(order)]
        kept = [rows[i] for i in order]
        learnt = [encoded[i] for i in order]
        # by their ids too: some of what a tokenizer adds is in no digest of it
        named = json.dumps([fingerprint(kept), edges, [row.digest for row in learnt]]).encode()
        return cls(kept, learnt, edges, hashlib.sha256(named).hexdigest())

    @property
    def shards(self) -> int:
        """How many there are."""
        return len(self.edges) - 1

    @property
    def learnt(self) -> NDArray[np.int64]:
        """[n] supervised tokens of each row."""
        return np.array([row.n_response for row in self.encoded], dtype=np.int64)

    def bounds(self, i: int) -> tuple[int, int]:
        """Where a shard begins and ends."""
        return self.edges[i], self.edges[i + 1]

    def shard(self, i: int) -> list[Example]:
        """Its rows."""
        return self.rows[slice(*self.bounds(i))]

    def lengths(self, i: int) -> NDArray[np.int64]:
        """Tokens of its rows."""
        return np.array([len(row.ids) for row in self.encoded[slice(*self.bounds(i))]], np.int64)


@dataclass(frozen=True)
class _Capture:
    """One way of capturing: who reads, what is stored, and how rows are cut."""

    run: Run
    reader: "Loaded"  # the teacher, with the student's tokenizer and template
    need: Need
    max_length: int
    token_budget: int
    progress: Progress

    @property
    def bytes_per_token(self) -> int:
        """What is stored of each."""
        if self.need.signal == "dense":
            return 2 * len(self.reader.tokenizer)
        return self.need.size * (8 if self.need.signal == "sampled" else 6) + 2

    def check_size(self, tokens: int) -> None:
        """UsageError where whole distributions are too much to store."""
        size = tokens * self.bytes_per_token
        if self.need.signal == "dense" and size > DENSE_MOST:
            raise UsageError(
                f"whole distributions of {tokens:,} tokens over {len(self.reader.tokenizer):,} ids "
                f"are {size / 2**30:.1f} GiB; at most {DENSE_MOST / 2**30:g} are stored",
                hint="pass --set train.teacher_kind=topk, or train with --set train.teacher=online",
            )

    def shelf(self, rows: Sequence[Example]) -> Shelf:
        """The rows that can be learnt. UsageError where one is too long for the teacher."""
        from pilotfish.tokenization import encode_training
        from pilotfish.training.setup import check_reach

        encoded = encode_training(rows, self.reader.tokenizer, self.max_length)
        usable = [i for i, row in enumerate(encoded) if not row.reason]
        check_reach(self.reader, max((len(encoded[i].ids) for i in usable), default=0))
        return Shelf.of(
            [rows[i] for i in usable], [encoded[i] for i in usable], self.bytes_per_token
        )

    def of(self, shelf: Shelf) -> dict[str, "TeacherOutputs"]:
        """Capture what is missing, and read all of it back."""
        from pilotfish.engine.scorer import ShardScorer

        start, passes, inside = time.monotonic(), dict[int, int](), 0
        scorer = ShardScorer(
            shelf, [self.need], self.reader, self.run.store, max_length=self.max_length,
            token_budget=self.token_budget,
        )  # fmt: skip

        def tick(rows: int) -> None:
            nonlocal inside
            inside += rows
            self.progress.step("teacher", min(inside, len(shelf.rows)), len(shelf.rows))

        for receipt in scorer.over(range(shelf.shards), tick):
            if receipt.measured:
                passes[receipt.shard] = 1
        if passes:
            self.run.cost(
                "teacher", self.need.name, seconds=time.monotonic() - start,
                rows=sum(len(shelf.shard(shard)) for shard in passes),
                **charged_flops(self.reader, passes, shelf.lengths),
            )  # fmt: skip
        return self._read(shelf, scorer.keys[self.need])

    def _read(self, shelf: Shelf, key: str) -> dict[str, "TeacherOutputs"]:
        from pilotfish.data_order import row_name
        from pilotfish.engine.shard_files import load_shard
        from pilotfish.training.teacher.outputs import TeacherOutputs

        taught: dict[str, TeacherOutputs] = {}
        reasons: list[str] = []
        for shard in range(shelf.shards):
            rows = shelf.shard(shard)
            ids, found = load_shard(self.run.store, key, shard)
            if ids.tolist() != [row.id for row in rows]:
                raise DamagedRun(f"signals/{key} does not hold the rows that it is named after")
            reasons += [str(reason) for reason in found.reason if reason]
            for place in np.flatnonzero(found.reason == ""):
                arrays = _arrays(self.need.signal, found, int(place))
                read = int(np.asarray(found.values["ids"])[place])
                taught[row_name(rows[place])] = TeacherOutputs(self.need.signal, arrays, read)
        if reasons:
            told = "; ".join(f"{why} ({times:,})" for why, times in Counter(reasons).most_common(3))
            raise DataError(
                f"the teacher '{self.reader.name}' could not be captured on {len(reasons):,} of "
                f"{len(shelf.rows):,} rows: {told}",
                hint="train with --set train.teacher=online, or with --loss lm",
            )
        return taught


def _arrays(kind: str, found: Measured, place: int) -> dict[str, NDArray[Any]]:
    """What is stored of one row: [t, ...] each, one value a token where there is no more."""
    arrays = {}
    for name, column in _ARRAYS[kind].items():
        flat = np.asarray(found.values[column][place])
        arrays[name] = flat if name == "rest" else flat.reshape(int(found.count[place]), -1)
    return arrays


def _prepared(
    run: Run,
    teacher: "Loaded",
    config: TrainConfig,
    *,
    strong: str,
    seed: int,
    progress: Progress,
) -> _Capture:
    from pilotfish.models import config_of, load_tokenizer, tokenizer_digest, window_of
    from pilotfish.training.setup import unlike_tokenizers

    tokenizer = load_tokenizer(strong)
    if tokenizer_digest(tokenizer) != teacher.tokenizer_digest:
        raise unlike_tokenizers(teacher.name, strong)
    # rows are cut and written as the student is shown them, whatever template the teacher has
    precision = "fp32" if teacher.precision == "int8" else teacher.precision
    reader = replace(teacher, tokenizer=tokenizer, precision=precision)
    limit = min(config.max_length, window_of(config_of(strong)) or config.max_length)
    budget = _token_budget(run, teacher)
    return _Capture(run, reader, _need(config, seed), limit, budget, progress)


def _token_budget(run: Run, teacher: "Loaded") -> int:
    """Found once: a capture taken up again must make the same batches."""
    from pilotfish.engine.token_budget import find_budget

    known: Mapping[str, Any] = run.section("teacher")
    asked = {"parameters": teacher.parameters, "device": teacher.device.type}
    if {key: known.get(key) for key in asked} != asked:
        known = {**asked, "token_budget": find_budget(teacher)}
        run.update(teacher=known)
    return int(known["token_budget"])
