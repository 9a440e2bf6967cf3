"""S4: what unfolds a thousandfold ends within 1 GB and 30 s, in quarantine or with a sentence."""

import gzip
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.figures import Reached

pytestmark = pytest.mark.torture

LIMIT, SECONDS = 10**9, 30
MEGABYTE = 2**20
GOOD = json.dumps({"instruction": "Say a", "input": "", "output": "some words"}).encode() + b"\n"


def zeros(path: Path, head: bytes, body: bytes, tail: bytes, megabytes: int) -> None:
    """A gzip of head, a body again and again, and tail."""
    with gzip.open(path, "wb", compresslevel=9) as out:
        out.write(head)
        for _ in range(megabytes):
            out.write(body * (MEGABYTE // len(body)))
        out.write(tail)


def packed_line(folder: Path) -> Path:
    """One line of 300 MB among good ones, in 300 kB."""
    path = folder / "line.jsonl.gz"
    head = GOOD * 3 + b'{"instruction": "a", "output": "'
    zeros(path, head, b"x" * 1024, b'"}\n' + GOOD, 300)
    return path


def packed_list(folder: Path) -> Path:
    """A list of 300 MB: lists have no lines to read one by one."""
    path = folder / "list.json.gz"
    zeros(path, b"[" + GOOD.strip(), b" " * 1024, b"]", 300)
    return path


def packed_csv(folder: Path) -> Path:
    """A quoted field without end."""
    path = folder / "field.csv.gz"
    zeros(path, b'instruction,input,output\na,b,c\n"', b"x" * 1023 + b"\n", b"", 300)
    return path


def csv_quote(folder: Path) -> Path:
    """The same unpacked, of 40 MB."""
    path = folder / "field.csv"
    with path.open("wb") as out:
        out.write(b'instruction,input,output\na,b,c\n"')
        for _ in range(40):
            out.write((b"x" * 1023 + b"\n") * 1024)
    return path


def repeated(folder: Path, length: int, rows: int) -> Path:
    """A dictionary of one long text, which every row names."""
    path = folder / f"dictionary-{length}-{rows}.parquet"
    text = pa.array(["x" * length])
    column = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), text)
    table = pa.table({"instruction": pa.array(["a"] * rows), "output": column})
    pq.write_table(table, path, compression="zstd")
    return path


def parquet_rows(folder: Path) -> Path:
    """A thousand rows of 1 MB in a few kB: 1 GB as text."""
    return repeated(folder, MEGABYTE, 1000)


def parquet_text(folder: Path) -> Path:
    """Rows of 500 MB each."""
    return repeated(folder, 500 * MEGABYTE, 4)


def arrow_rows(folder: Path) -> Path:
    """Rows that all name one text of 1 MB."""
    path = folder / "dictionary.arrow"
    text = pa.array(["x" * MEGABYTE])
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 300, pa.int32()), text)
    table = pa.table({"instruction": pa.array(["a"] * 300), "output": column})
    with pa.ipc.new_file(str(path), table.schema) as out:
        out.write_table(table)
    return path


def deep_line(folder: Path) -> Path:
    """Brackets ten million deep."""
    path = folder / "deep.jsonl"
    path.write_bytes(GOOD * 3 + b'{"a": ' + b"[" * 10**7 + b"\n" + GOOD)
    return path


def deep_list(folder: Path) -> Path:
    """A file of opening brackets."""
    path = folder / "deep.json"
    path.write_bytes(b"[" * 10**6)
    return path


def aliases(folder: Path) -> Path:
    """Nine levels of nine references: a billion words."""
    path = folder / "aliases.yaml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    path.write_text("\n".join(lines))
    return path


def yaml_object(folder: Path) -> Path:
    path = folder / "object.yaml"
    path.write_text(f"data: !!python/object/apply:os.system ['touch {folder}/ran']\n")
    return path


def yaml_long(folder: Path) -> Path:
    """2 MB of recipe."""
    path = folder / "long.yaml"
    path.write_text("data: x\n" + "# filling\n" * 200_000)
    return path


def yaml_deep(folder: Path) -> Path:
    path = folder / "deep.yaml"
    path.write_text("data: " + "[" * 100_000)
    return path


class Ended(NamedTuple):
    code: int
    seconds: float
    megabytes: float
    said: str


def under_a_limit(*words: str) -> Ended:
    """A real command that may map 1 GB, and its end."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))

    start = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-m", "pilotfish", *words], preexec_fn=limit, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    said, _ = child.communicate(timeout=SECONDS)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return Ended(child.returncode, time.monotonic() - start, peak, said)


DATA: dict[Callable[[Path], Path], set[int]] = {
    packed_line: {3}, packed_list: {3}, packed_csv: {3}, csv_quote: {0}, parquet_rows: {3},
    parquet_text: {3}, arrow_rows: {0, 3}, deep_line: {0}, deep_list: {3},
}  # fmt: skip
RECIPES = (aliases, yaml_object, yaml_long, yaml_deep)


SECONDS_LONG = {packed_csv, packed_list, csv_quote, parquet_text, arrow_rows}


@pytest.mark.parametrize(
    "bomb",
    [pytest.param(b, marks=[pytest.mark.slow] if b in SECONDS_LONG else []) for b in DATA],
    ids=lambda bomb: bomb.__name__,
)
def test_a_bomb_of_rows(bomb: Callable[[Path], Path], tmp_path: Path, reached: Reached) -> None:
    path = bomb(tmp_path)
    ended = under_a_limit("inspect", str(path), "--max-bad-rate", "1")
    path.unlink()
    assert "Traceback" not in ended.said and ended.said
    assert ended.code in DATA[bomb], ended
    reached("S4", f"{bomb.__name__}: exit {ended.code} after {ended.seconds:.0f} s within 1 GB")


@pytest.mark.parametrize("bomb", RECIPES, ids=lambda bomb: bomb.__name__)
def test_a_bomb_of_a_recipe(bomb: Callable[[Path], Path], tmp_path: Path, reached: Reached) -> None:
    ended = under_a_limit("run", str(bomb(tmp_path)), "--out", str(tmp_path / "run"))
    assert ended.code == 2 and "Traceback" not in ended.said, ended
    assert not (tmp_path / "ran").exists()
    reached("S4", f"{bomb.__name__}: exit 2 after {ended.seconds:.0f} s within 1 GB")
