"""A stored teacher: capture the weak model's outputs on the rows of an arm once, and read them."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.config import TrainConfig
from pilotfish.data.run_pool import fingerprint
from pilotfish.data_order import row_name
from pilotfish.errors import DamagedRun, DataError, UsageError
from pilotfish.flops import charged_flops
from pilotfish.progress import SILENT, Progress
from pilotfish.records import Example, Need
from pilotfish.store import Run

if TYPE_CHECKING:
    from pilotfish.models import Loaded
    from pilotfish.tokenization import Encoded
    from pilotfish.training.teacher.outputs import TeacherOutputs

DENSE_MOST = 4 * 2**30  # bytes of whole distributions that are still stored, and held in memory
SHARD_ROWS = 2000
SHARD_BYTES = 256 * 2**20

# Per kind: the names of its arrays, and the columns of the signal that hold them.
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
    """Capture the teacher at every token that training will learn, where that is missing.

    Only these rows are read, in shards of their own: of a pool of which a tenth is learnt, a tenth
    is captured. Arms, seeds and losses that learn the same rows share what is stored. Trusted rows
    have their own shards, for arms that learn both kinds.

    Args:
        run: Where outputs are stored.
        rows: The rows of an arm.
        teacher: The weak model.
        config: Kind of the stored teacher, and lengths.
        strong: The model to train, whose tokenizer and template are used.
        seed: Of the draws of kind `sampled`.
        progress: Informed of the rows read.

    Returns:
        Outputs by row name.

    Raises:
        UsageError: The tokenizers differ, a row is too long for the teacher, or whole distributions
            would fill more than `DENSE_MOST` bytes.
        DataError: The teacher cannot read a row.
    """
    from pilotfish.models import config_of, load_tokenizer, tokenizer_digest, window_of
    from pilotfish.training.setup import unlike_tokenizers

    tokenizer = load_tokenizer(strong)
    if tokenizer_digest(tokenizer) != teacher.tokenizer_digest:
        raise unlike_tokenizers(teacher.name, strong)
    # rows are cut and written as the student sees them, whatever template the teacher has
    precision = "fp32" if teacher.precision == "int8" else teacher.precision
    capture = _Capture(
        run,
        replace(teacher, tokenizer=tokenizer, precision=precision),
        _need(config, seed),
        min(config.max_length, window_of(config_of(strong)) or config.max_length),
        _token_budget(run, teacher),
        progress,
    )
    trusted = [row for row in rows if row.id.startswith("trusted:")]
    others = [row for row in rows if not row.id.startswith("trusted:")]
    shelves = [capture.shelf(group) for group in (others, trusted) if group]
    capture.check_size(sum(int(shelf.learnt.sum()) for shelf in shelves))
    outputs: dict[str, TeacherOutputs] = {}
    for shelf in shelves:
        outputs |= capture.read(shelf, capture.measure(shelf))
    return outputs


def captured_as(config: TrainConfig, strong: str, seed: int) -> dict[str, Any]:
    """Return what decides a stored teacher besides its weights and rows, in plain words."""
    from pilotfish.models import load_tokenizer
    from pilotfish.tokenization import template_digest

    need = _need(config, seed)
    return {"need": need.name, "template": template_digest(load_tokenizer(strong), need.text)}


def _need(config: TrainConfig, seed: int) -> Need:
    kind = config.teacher_kind
    return Need(
        kind,
        span="supervised",
        size=0 if kind == "dense" else config.teacher_top_k,
        seed=seed if kind == "sampled" else 0,
    )


def _token_budget(run: Run, teacher: "Loaded") -> int:
    """Find the token budget of a batch once: a resumed capture must make the same batches."""
    from pilotfish.engine.batches import find_budget

    found = {"parameters": teacher.parameters, "device": teacher.device.type}
    known = run.section("teacher")
    if {key: known.get(key) for key in found} != found:
        known = {**found, "token_budget": find_budget(teacher)}
        run.update(teacher=known)
    return int(known["token_budget"])


@dataclass(frozen=True, eq=False)
class Shelf:
    """Rows in memory, cut into shards; they are ordered by content."""

    rows: list[Example]
    encoded: "list[Encoded]"
    edges: list[int]  # where shards begin, and the end
    fingerprint: str

    @classmethod
    def of(
        cls, rows: Sequence[Example], encoded: "Sequence[Encoded]", bytes_per_token: int
    ) -> "Shelf":
        """Cut shards of at most `SHARD_ROWS` rows that store at most `SHARD_BYTES`, or one row."""
        order = sorted(range(len(rows)), key=lambda i: (rows[i].digest, rows[i].id))
        edges, stored = [0], 0
        for place, index in enumerate(order):
            size, held = encoded[index].n_response * bytes_per_token, place - edges[-1]
            if held >= SHARD_ROWS or (held and stored + size > SHARD_BYTES):
                edges.append(place)
                stored = 0
            stored += size
        edges = [*edges, len(order)]
        kept, learnt = [rows[i] for i in order], [encoded[i] for i in order]
        # by their ids too: some of what a tokenizer adds is in no digest of it
        named = json.dumps([fingerprint(kept), edges, [row.digest for row in learnt]]).encode()
        return cls(kept, learnt, edges, hashlib.sha256(named).hexdigest())

    @property
    def shards(self) -> int:
        """Number of shards."""
        return len(self.edges) - 1

    @property
    def learnt(self) -> NDArray[np.int64]:
        """[n] supervised tokens of each row."""
        return np.array([row.n_response for row in self.encoded], dtype=np.int64)

    def bounds(self, i: int) -> tuple[int, int]:
        """Return where a shard begins and ends."""
        return self.edges[i], self.edges[i + 1]

    def shard(self, i: int) -> list[Example]:
        """Return the rows of a shard."""
        return self.rows[slice(*self.bounds(i))]

    def lengths(self, i: int) -> NDArray[np.int64]:
        """Return the tokens of the rows of a shard."""
        return np.array([len(row.ids) for row in self.encoded[slice(*self.bounds(i))]], np.int64)


@dataclass(frozen=True)
class _Capture:
    """Captures shelves with one teacher and one kind of output."""

    run: Run
    reader: "Loaded"  # the teacher, with the student's tokenizer and template
    need: Need
    max_length: int
    token_budget: int
    progress: Progress

    @property
    def bytes_per_token(self) -> int:
        if self.need.signal == "dense":
            return 2 * len(self.reader.tokenizer)
        return self.need.size * (8 if self.need.signal == "sampled" else 6) + 2

    def check_size(self, tokens: int) -> None:
        """Raise UsageError where whole distributions are too large to store."""
        size = tokens * self.bytes_per_token
        if self.need.signal == "dense" and size > DENSE_MOST:
            raise UsageError(
                f"whole distributions of {tokens:,} tokens over {len(self.reader.tokenizer):,} ids "
                f"are {size / 2**30:.1f} GiB; at most {DENSE_MOST / 2**30:g} are stored",
                hint="pass --set train.teacher_kind=topk, or train with --set train.teacher=online",
            )

    def shelf(self, rows: Sequence[Example]) -> Shelf:
        """Put the usable rows on a shelf; raise UsageError if one is too long for the teacher."""
        from pilotfish.tokenization import encode_training
        from pilotfish.training.setup import check_reach

        encoded = encode_training(rows, self.reader.tokenizer, self.max_length)
        usable = [i for i, row in enumerate(encoded) if not row.reason]
        check_reach(self.reader, max((len(encoded[i].ids) for i in usable), default=0))
        return Shelf.of(
            [rows[i] for i in usable], [encoded[i] for i in usable], self.bytes_per_token
        )

    def measure(self, shelf: Shelf) -> str:
        """Measure the shards that are missing, record their cost, and return the key of all."""
        from pilotfish.engine.scorer import ShardScorer

        start, passes, done = time.monotonic(), dict[int, int](), 0
        scorer = ShardScorer(
            shelf, [self.need], self.reader, self.run.store, max_length=self.max_length,
            token_budget=self.token_budget,
        )  # fmt: skip

        def tick(rows: int) -> None:
            nonlocal done
            done += rows
            self.progress.step("teacher", min(done, len(shelf.rows)), len(shelf.rows))

        for receipt in scorer.over(range(shelf.shards), tick):
            if receipt.measured:
                passes[receipt.shard] = 1
        if passes:
            self.run.cost(
                "teacher", self.need.name, seconds=time.monotonic() - start,
                rows=sum(len(shelf.shard(shard)) for shard in passes),
                **charged_flops(self.reader, passes, shelf.lengths),
            )  # fmt: skip
        return scorer.keys[self.need]

    def read(self, shelf: Shelf, key: str) -> dict[str, "TeacherOutputs"]:
        """Read all shards of a shelf; raise DataError if rows could not be captured."""
        from pilotfish.engine.shard_files import load_shard
        from pilotfish.training.teacher.outputs import TeacherOutputs

        outputs: dict[str, TeacherOutputs] = {}
        reasons: Counter[str] = Counter()
        kind = self.need.signal
        for shard in range(shelf.shards):
            rows = shelf.shard(shard)
            ids, found = load_shard(self.run.store, key, shard)
            if ids.tolist() != [row.id for row in rows]:
                raise DamagedRun(f"signals/{key} does not hold the rows that it is named after")
            reasons.update(str(reason) for reason in found.reason if reason)
            for place in np.flatnonzero(found.reason == "").tolist():
                arrays = {}
                for name, column in _ARRAYS[kind].items():
                    flat = np.asarray(found.values[column][place])
                    shape = (-1,) if name == "rest" else (int(found.count[place]), -1)
                    arrays[name] = flat.reshape(shape)
                digest = int(np.asarray(found.values["ids"])[place])
                outputs[row_name(rows[place])] = TeacherOutputs(kind, arrays, digest)
        if reasons:
            words = "; ".join(f"{why} ({times:,})" for why, times in reasons.most_common(3))
            raise DataError(
                f"the teacher '{self.reader.name}' could not be captured on {reasons.total():,} of "
                f"{len(shelf.rows):,} rows: {words}",
                hint="train with --set train.teacher=online, or with --loss lm",
            )
        return outputs
