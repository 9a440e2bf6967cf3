"""A model whose rows cannot be laid end to end is measured all the same, and the run says so."""

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from pilotfish.config import parse_methods
from pilotfish.config.data import Source
from pilotfish.config.scoring import ScoreConfig
from pilotfish.scoring.score import score
from tests.engine.shapes import SHAPES
from tests.tiny.models import byte_tokenizer


@pytest.mark.parametrize(("shape", "padded"), [("bloom", True), ("gpt2", False)])
def test_padded_rows_are_warned_of_once(tmp_path: Path, shape: str, padded: bool) -> None:
    weak, data = tmp_path / "weak", tmp_path / "rows.jsonl"
    AutoModelForCausalLM.from_config(SHAPES[shape]()).save_pretrained(weak)
    byte_tokenizer().save_pretrained(weak)
    rows = [{"prompt": f"say {i}", "completion": f"well {i}"} for i in range(8)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for method in ("ifd", "superfiltering"):
        run = score(
            str(tmp_path / "run"), Source(str(data)), ScoreConfig(str(weak), parse_methods(method))
        )
        told = [text for text in run.manifest.get("warnings", ()) if "packed" in text]
        assert told == [f"{weak} cannot be packed safely: its rows are padded"] * padded
        assert run.section("scores")[method]["scorable"] == 8


def test_a_method_that_reads_no_model_has_nothing_to_pack(tmp_path: Path) -> None:
    weak, data = tmp_path / "weak", tmp_path / "rows.jsonl"
    AutoModelForCausalLM.from_config(SHAPES["bloom"]()).save_pretrained(weak)
    byte_tokenizer().save_pretrained(weak)
    data.write_text(json.dumps({"prompt": "say", "completion": "well"}) + "\n")
    run = score(
        str(tmp_path / "run"), Source(str(data)), ScoreConfig(str(weak), parse_methods("longest"))
    )
    assert not [text for text in run.manifest.get("warnings", ()) if "packed" in text]
