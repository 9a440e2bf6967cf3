"""The GPU example of weak-to-strong, in miniature: models from nothing, then the experiment."""

import gzip
import json
import random
import sys
from pathlib import Path

import pytest

from pilotfish.config import make_weak_to_strong, read_recipe
from pilotfish.models import load
from pilotfish.weak_to_strong.run import run_weak_to_strong
from tests.examples.test_tinystories import EXAMPLES
from tests.examples.test_tinystories import load as example

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "saw",
    "one",
    "red",
    "fish",
    "in",
    "two",
    "cold",
    "lakes",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files of the same names and fields as the shared ones."""
    draw, folder = random.Random(0), tmp_path_factory.mktemp("data") / "instruct"
    folder.mkdir()
    said = [{"instruction": _text(draw, 12), "output": _text(draw, 20)} for _ in range(60)]
    for name in ("gpteacher_roleplay.jsonl", "llamafactory_alpaca_en_demo.jsonl"):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in said))
    asked = "".join(json.dumps({"question": _text(draw, 9), "answer": "4"}) + "\n" for _ in said)
    (folder / "gsm8k_train.jsonl").write_text(asked)
    (folder / "tiny_shakespeare.txt").write_text("\n".join(_text(draw, 8) for _ in range(250)))
    with gzip.open(folder / "dolly.jsonl.gz", "wt") as handle:
        handle.writelines(json.dumps(row) + "\n" for row in said)
    with gzip.open(folder / "t0_mini_20.jsonl.gz", "wt") as handle:
        handle.writelines(json.dumps(row) + "\n" for row in _families(draw))
    return folder.parent


def _text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(WORDS, k=words))


def _families(draw: random.Random) -> list[dict[str, object]]:
    """120 questions in two templates each, and one whose answer is long."""
    rows: list[dict[str, object]] = []
    for idx in range(120):
        asked, answer = f"{idx} {_text(draw, 6)}", draw.choice(["yes", "no"])
        for template in ("a", "b"):
            rows.append(
                {"family": "f", "template": template, "idx": idx, "prompt": f"{template}: {asked}?",
                 "completion": f" {answer}"}
            )  # fmt: skip
    long = {"family": "g", "template": "a", "idx": 0, "prompt": "tell", "completion": "so " * 40}
    return [*rows, long]


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PILOTFISH_DATA", str(data))
        patch.syspath_prepend(str(EXAMPLES))
        patch.setattr(sys, "argv", ["make", "--toy", "--out", str(out)])
        example("w2s_pretrain").main()
    return out


def test_every_question_stands_once_and_long_answers_are_left_out(made: Path) -> None:
    rows = [json.loads(line) for line in (made / "families.jsonl").read_text().splitlines()]
    assert len(rows) == 120 and all(row["prompt"].startswith("a: ") for row in rows)
    assert {row["completion"] for row in rows} == {"yes", "no"}


def test_both_models_share_a_tokenizer_that_writes_anything(made: Path) -> None:
    weak, strong = (load(str(made / name), device="cpu") for name in ("weak", "strong"))
    assert weak.tokenizer_digest == strong.tokenizer_digest
    assert weak.parameters < strong.parameters
    odd = "naïve fish 鱼\n"
    assert weak.tokenizer.decode(weak.tokenizer(odd)["input_ids"]) == odd


def test_full_sizes_are_those_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlamaConfig

    monkeypatch.syspath_prepend(str(EXAMPLES))
    full = example("w2s_pretrain").FULL
    counts = []
    for hidden, layers in (full.weak, full.strong):
        shape = LlamaConfig(intermediate_size=hidden * 8 // 3)
        block = 4 * hidden**2 + 3 * hidden * shape.intermediate_size + 2 * hidden
        counts.append(full.vocabulary * hidden + layers * block + hidden)
    assert counts[0] == pytest.approx(5e6, rel=0.1) and counts[1] == pytest.approx(80e6, rel=0.1)


@pytest.mark.slow
def test_the_recipe_runs_on_them(made: Path, tmp_path: Path) -> None:
    short = {"max_steps": 50, "max_length": 64, "use_peft": False, "learning_rate": 1e-2}
    small = {
        "data": str(made / "families.jsonl"), "weak": str(made / "weak"),
        "strong": str(made / "strong"), "seeds": 2, "weak_rows": 30, "rows": 30,
        "validation_rows": 10, "test_rows": 12, "filters": {},
        "train": short, "weak_train": short,
    }  # fmt: skip
    recipe = read_recipe(EXAMPLES / "w2s_families.yaml")
    found = run_weak_to_strong(make_weak_to_strong({**recipe, **small}), str(tmp_path / "run"))
    assert {"naive", "kd_mix", "confident"} <= {arm["name"] for arm in found["arms"]}
    assert found["metric"] == "exact_match" and found["weak"]["mean"] > 0.2, "yes or no, and ended"
