"""The example recipes are valid, and say what their comments promise."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pilotfish.config.recipe import make_recipe, read_recipe
from tests.examples.test_tinystories import EXAMPLES, load
from tests.tiny.models import tiny_llama

RECIPES = sorted(path for path in EXAMPLES.glob("*.yaml") if not path.stem.startswith("w2s"))


def test_all_recipes_are_here() -> None:
    assert [path.stem for path in RECIPES] == ["dolly", "qwen", "smollm"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_valid(path: Path) -> None:
    recipe = make_recipe(read_recipe(path))
    assert recipe.method == "superfiltering" and recipe.budget == "10%"


def test_qwen_has_an_lm_and_an_lm_plus_kd_arm() -> None:
    recipe = make_recipe(read_recipe(EXAMPLES / "qwen.yaml"))
    assert recipe.train.loss == "lm"
    assert recipe.losses == {"selected_kd": "mix(lm=0.7, kd=0.3)"}


def test_the_refused_kd_arm_of_smollm_can_be_asked_for_as_its_comment_says() -> None:
    line = next(
        line for line in (EXAMPLES / "smollm.yaml").read_text().splitlines() if "--set" in line
    )
    override = line.partition("--set '")[2].partition("'")[0]
    recipe = make_recipe(read_recipe(EXAMPLES / "smollm.yaml"), [override])
    assert recipe.losses == {"selected_kd": "mix(lm=0.7, kd=0.3)"}
    assert not make_recipe(read_recipe(EXAMPLES / "smollm.yaml")).losses


def test_small_llama_has_the_given_tokenizer_and_repeats_with_its_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weak = tiny_llama(tmp_path / "weak")
    maker = load("make_small_llama")
    for out in ("one", "two"):
        words = [
            "make",
            "--tokenizer",
            weak,
            "--out",
            tmp_path / out,
            "--hidden",
            32,
            "--layers",
            1,
        ]
        monkeypatch.setattr("sys.argv", [str(word) for word in words])
        maker.main()
    one, two = (AutoModelForCausalLM.from_pretrained(tmp_path / out) for out in ("one", "two"))
    assert torch.equal(one.model.embed_tokens.weight, two.model.embed_tokens.weight)
    assert AutoTokenizer.from_pretrained(tmp_path / "one").get_vocab() == (
        AutoTokenizer.from_pretrained(weak).get_vocab()
    )
