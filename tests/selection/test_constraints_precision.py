"""--dedup and --quota over int8 scores: the rows that fp32 picks under the same limits."""

import json
from pathlib import Path

import numpy as np
import pytest

from pilotfish.diagnostics.verify import verify
from pilotfish.errors import UsageError
from pilotfish.number_formats import int8_supported
from pilotfish.selection.constraints import Constraints
from pilotfish.selection.select import SelectConfig, select
from tests.scoring.test_precision import kept, scored
from tests.tiny.models import tiny_llama

pytestmark = pytest.mark.skipif(not int8_supported(), reason="this CPU has no int8 dot products")
ROWS = 800


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_llama(tmp_path_factory.mktemp("models") / "weak", hidden=64, bos=True))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Rows of three topics, one of them small, every sixth row said twice."""
    draw, path = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "rows.jsonl"
    rows: list[dict[str, object]] = []
    for i in range(ROWS):
        words = ["".join(draw.choice(list("abcdefgh"), 4)) for _ in range(draw.integers(2, 9))]
        topic = "abc"[int(draw.choice(3, p=(0.05, 0.35, 0.6)))]
        rows.append({"instruction": words[0], "output": " ".join(words[1:]), "topic": topic})
        if i % 6 == 0:
            rows.append({**rows[-1], "topic": "abc"[i % 3]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(("method", "dedup", "quota"), [
    ("ifd", None, "topic"), ("ifd", "exact", "topic:balanced"),
    ("ifd(direction=low)", "exact", None), ("ifd(direction=middle)", None, "topic:a=1,c=4"),
])  # fmt: skip
def test_int8_selects_what_fp32_selects(
    tmp_path: Path, data: str, weak: str, method: str, dedup: str | None, quota: str | None
) -> None:
    limits, sets = Constraints.parse(dedup, quota), []
    for word in ("fp32", "int8"):
        run = scored(tmp_path / word, data, weak, word, method)
        select(run.root, SelectConfig(method, "12%", constraints=limits))
        sets.append(kept(run))
        facts = run.section("selections")["selected"]
        assert verify(str(run.root))["selections"] == 1
        assert ("audit" in facts) == (word == "int8")
    assert sets[0] == sets[1] and len(sets[0]) > 100


def test_near_copies_need_fp32(tmp_path: Path, data: str, weak: str) -> None:
    run = scored(tmp_path / "run", data, weak, "int8")
    with pytest.raises(UsageError, match="which of two near-duplicates ranks better") as caught:
        select(run.root, SelectConfig("ifd", "12%", constraints=Constraints.parse("near", None)))
    assert "--precision fp32" in str(caught.value.hint)
