"""S1: model, data and config folders that try to run code or leave the run do neither."""

import importlib
import json
import pickle
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pilotfish import remote_code
from pilotfish.cli.main import run as run_command
from pilotfish.report import write
from pilotfish.store import Run
from tests.figures import Reached
from tests.models.test_remote_code import own_model
from tests.tiny.models import tiny_llama
from tests.torture.test_signals import WITHIN, copied, signalled

pytestmark = pytest.mark.torture


class Payload:
    """Whoever unpickles it creates the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return (_touch, (self.canary,))


def _touch(path: Path) -> None:
    path.touch()


@dataclass(frozen=True)
class Scene:
    """A folder to play in: a good model, good rows, and where a canary would sit."""

    root: Path

    @property
    def canary(self) -> Path:
        return self.root / "canary"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def rows(self) -> Path:
        return self.root / "data" / "rows.jsonl"

    @property
    def out(self) -> Path:
        return self.root / "run"

    def score(self, *more: str, weak: Path | None = None, data: Path | None = None) -> list[str]:
        return [
            "score", str(data or self.rows), "--weak", str(weak or self.model),
            "--method", "perplexity", "--out", str(self.out), "--quiet", *more,
        ]  # fmt: skip

    def pickled(self, name: str, *, keep: bool = False) -> None:
        if not keep:
            (self.model / "model.safetensors").unlink()
        (self.model / name).write_bytes(pickle.dumps(Payload(self.canary)))

    def change(self, name: str, **values: Any) -> None:
        path = self.model / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    def code(self) -> str:
        return f"open({str(self.canary)!r}, 'w').close()\n"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("good"), hidden=16, layers=1, chat=True)


def made(good: Path, root: Path) -> Scene:
    scene = Scene(root)
    shutil.copytree(good, scene.model)
    scene.rows.parent.mkdir()
    lines = [json.dumps({"prompt": f"say {i}", "completion": f"word {i}"}) for i in range(6)]
    scene.rows.write_text("\n".join(lines) + "\n")
    return scene


def zip_weights(scene: Scene) -> list[str]:
    torch.save(Payload(scene.canary), scene.model / "pytorch_model.bin")
    (scene.model / "model.safetensors").unlink()
    return scene.score()


def bare_pickle(scene: Scene) -> list[str]:
    scene.pickled("model.pt")
    return scene.score()


def pickles_beside(scene: Scene) -> list[str]:
    for name in ("optimizer.pt", "training_args.bin", "pytorch_model.bin", "tokenizer.pkl"):
        scene.pickled(name, keep=True)
    return scene.score()


def pickle_named_safetensors(scene: Scene) -> list[str]:
    scene.pickled("model.safetensors")
    return scene.score()


def own_architecture(scene: Scene) -> list[str]:
    shutil.rmtree(scene.model)
    own_model(scene.model, scene.canary)
    return scene.score()


def own_code_over_a_known_architecture(scene: Scene) -> list[str]:
    (scene.model / "evil.py").write_text(scene.code())
    scene.change("config.json", auto_map={"AutoModelForCausalLM": "evil.Model"})
    return scene.score()


def own_tokenizer(scene: Scene) -> list[str]:
    (scene.model / "evil.py").write_text(scene.code())
    scene.change(
        "tokenizer_config.json", tokenizer_class="Evil",
        auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]},
    )  # fmt: skip
    return scene.score()


def code_from_a_hub(scene: Scene) -> list[str]:
    named = {"AutoModelForCausalLM": "tests/evil--evil.Model"}
    scene.change("config.json", model_type="unheard", auto_map=named)
    return scene.score("--trust-remote-code")


def template_that_breaks_out(scene: Scene) -> list[str]:
    climbing = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    opening = f"{{{{ cycler.__init__.__globals__.os.system('touch {scene.canary}') }}}}"
    (scene.model / "chat_template.jinja").write_text(climbing + opening)
    return scene.score()


def template_without_end(scene: Scene) -> list[str]:
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}"
    (scene.model / "chat_template.jinja").write_text(f"{loop}{{% endfor %}}{{% endfor %}}")
    return scene.score()


def template_of_a_terabyte(scene: Scene) -> list[str]:
    (scene.model / "chat_template.jinja").write_text("{{ 'x' * 10 ** 12 }}")
    return scene.score()


def unheard_architecture(scene: Scene) -> list[str]:
    scene.change("config.json", model_type="unheard", architectures=["Unheard"])
    return scene.score()


def config_that_is_no_config(scene: Scene) -> list[str]:
    (scene.model / "config.json").write_text('["llama"]')
    return scene.score()


def huge_sizes(scene: Scene) -> list[str]:
    scene.change("config.json", hidden_size=2**40, vocab_size=-1)
    return scene.score()


def header_that_lies(scene: Scene) -> list[str]:
    header = json.dumps({"w": {"dtype": "F32", "shape": [9], "data_offsets": [0, 2**40]}}).encode()
    data = len(header).to_bytes(8, "little") + header
    (scene.model / "model.safetensors").write_bytes(data)
    return scene.score()


def header_without_end(scene: Scene) -> list[str]:
    (scene.model / "model.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    return scene.score()


def weights_that_are_no_numbers(scene: Scene) -> list[str]:
    path = scene.model / "model.safetensors"
    weights = {name: torch.full_like(w, torch.nan) for name, w in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})
    return scene.score()


def index_that_leaves_the_folder(scene: Scene) -> list[str]:
    (scene.model / "model.safetensors").rename(scene.model / "part.safetensors")
    scene.pickled("../elsewhere.bin", keep=True)
    _index(scene, "../elsewhere.bin")
    return scene.score()


def index_of_pickles(scene: Scene) -> list[str]:
    (scene.model / "model.safetensors").rename(scene.model / "part.safetensors")
    scene.pickled("weights.bin", keep=True)
    _index(scene, "weights.bin")
    return scene.score()


def _index(scene: Scene, file: str) -> None:
    index = {"metadata": {}, "weight_map": {"lm_head.weight": file, "w": "part.safetensors"}}
    (scene.model / "model.safetensors.index.json").write_text(json.dumps(index))


def adapter_of_pickles(scene: Scene) -> list[str]:
    """Judged in a run that has nothing yet but rows."""
    adapter = scene.root / "adapter"
    adapter.mkdir()
    told = {"peft_type": "LORA", "base_model_name_or_path": str(scene.model), "r": 1}
    (adapter / "adapter_config.json").write_text(json.dumps(told))
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(Payload(scene.canary)))
    assert run_command(scene.score()) == 0
    return [
        "evaluate", str(scene.out), "--model", str(adapter), "--test", str(scene.rows),
        "--items", str(scene.out / "items.jsonl"),
    ]  # fmt: skip


def dataset_script(scene: Scene) -> list[str]:
    folder = scene.rows.parent
    for name in (f"{folder.name}.py", "__init__.py", "rows.py"):
        (folder / name).write_text(scene.code())
    return scene.score(data=folder)


def data_that_is_only_a_script(scene: Scene) -> list[str]:
    script = scene.root / "loader.py"
    script.write_text(scene.code())
    return scene.score(data=script)


def pickled_data(scene: Scene) -> list[str]:
    data = scene.root / "rows.pkl"
    data.write_bytes(pickle.dumps(Payload(scene.canary)))
    return scene.score(data=data)


def recipe_of_objects(scene: Scene) -> list[str]:
    recipe = scene.root / "recipe.yaml"
    recipe.write_text(f"data: !!python/object/apply:os.system ['touch {scene.canary}']\n")
    return ["run", str(recipe), "--out", str(scene.out)]


def set_of_objects(scene: Scene) -> list[str]:
    evil = f"train.loss=!!python/object/apply:os.system ['touch {scene.canary}']"
    return [
        "run", str(scene.rows), "--weak", str(scene.model), "--strong", str(scene.model),
        "--out", str(scene.out), "--set", evil,
    ]  # fmt: skip


def recipe_of_aliases(scene: Scene) -> list[str]:
    recipe = scene.root / "recipe.yaml"
    recipe.write_text("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n")
    return ["run", str(recipe), "--out", str(scene.out)]


Hostile = Callable[[Scene], list[str]]
# What is played, the exit code it ends with, and a word of what is said
CASES: tuple[tuple[Hostile, int, str], ...] = (
    (zip_weights, 2, "as a pickle (pytorch_model.bin)"),
    (bare_pickle, 2, "as a pickle (model.pt)"),
    (pickles_beside, 0, ""),
    (pickle_named_safetensors, 2, "cannot load the model"),
    (own_architecture, 2, "brings its own code"),
    (own_code_over_a_known_architecture, 0, ""),  # transformers' own class is taken
    (own_tokenizer, 2, "brings its own code"),
    (code_from_a_hub, 2, "another repository (tests/evil)"),
    (template_that_breaks_out, 2, "the chat template"),
    (template_of_a_terabyte, 2, "the chat template"),
    (unheard_architecture, 2, "cannot load the"),
    (config_that_is_no_config, 2, "config"),
    (huge_sizes, 2, "cannot load the"),
    (header_that_lies, 2, "cannot load the model"),
    (header_without_end, 2, "cannot load the model"),
    (weights_that_are_no_numbers, 0, ""),  # every row is unscorable, and none is ever picked
    (index_that_leaves_the_folder, 2, "names '../elsewhere.bin' among its weights"),
    (index_of_pickles, 2, "names 'weights.bin' among its weights"),
    (adapter_of_pickles, 2, "adapter without"),
    (dataset_script, 0, ""),
    (data_that_is_only_a_script, 2, "cannot read"),
    (pickled_data, 2, "cannot read"),
    (recipe_of_objects, 2, "not readable YAML"),
    (set_of_objects, 2, "not readable YAML"),
    (recipe_of_aliases, 2, "aliases"),
)


def outside(scene: Scene) -> set[str]:
    """Every file that is not in the run folder."""
    return {
        str(path.relative_to(scene.root.parent))
        for path in scene.root.parent.rglob("*")
        if not path.is_relative_to(scene.out)
    }


def test_hostile_folders_run_nothing(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], reached: Reached
) -> None:
    """Each ends as it should, in words, with no canary and no file beside the run."""
    played = 0
    for play, code, said in CASES:
        scene = made(good, tmp_path / play.__name__)
        command = play(scene)
        before = outside(scene)
        capsys.readouterr()
        ended = run_command(command)
        told = capsys.readouterr().err
        assert (ended, "Traceback" in told) == (code, False), (play, told)
        assert said in told, (play, told)
        assert ("error: " in told) == (code != 0), (play, told)
        assert not scene.canary.exists(), play
        assert outside(scene) == before, play
        played += 1
    reached("S1", f"0 canaries from {played} hostile model, data and config fixtures")


def test_ctrl_c_ends_a_template_that_never_would(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reached: Reached
) -> None:
    scene = made(good, tmp_path / "scene" / "endless")
    command = template_without_end(scene)
    before = outside(scene)
    rendering, begun = importlib.import_module("pilotfish.tokenization.render"), tmp_path / "begun"
    apply = rendering._apply_template

    def watched(*arguments: Any, **options: Any) -> str:
        begun.touch()
        return str(apply(*arguments, **options))

    monkeypatch.setattr(rendering, "_apply_template", watched)
    child = copied(command, tmp_path / "err")
    deadline = time.monotonic() + 60
    while not begun.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ended = signalled(child, tmp_path / "err", 0.5, signal.SIGINT)
    assert ended.code == 130 and ended.err.count("finished work is kept") == 1, ended.err
    assert ended.took < WITHIN and "Traceback" not in ended.err
    assert not scene.canary.exists() and outside(scene) == before
    reached("S1", "a template that never ends: Ctrl-C, exit 130 within 5 s, no canary")


def test_the_payloads_would_run_and_code_that_did_is_shown(good: Path, tmp_path: Path) -> None:
    """The negative control: what is refused above is armed."""
    scene = made(good, tmp_path / "armed")
    pickle.loads(pickle.dumps(Payload(scene.canary)))
    assert scene.canary.exists()
    scene.canary.unlink()
    shutil.rmtree(scene.model)
    own_model(scene.model, scene.canary)
    assert run_command(scene.score("--trust-remote-code")) == 0
    assert scene.canary.exists()
    assert not remote_code.allowed()
    assert Run(scene.out).section("weak")["remote_code"] is True
    report = write(Run(scene.out))
    assert report["remote_code"] == [str(scene.model)]
    assert "which was run" in report["warnings"][0]
    page = (scene.out / "report.html").read_text()
    assert page.index('class="danger"') < page.index("<h1")
