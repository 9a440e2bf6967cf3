"""The whole way round: exported rows, trained by TRL's own trainer, judged, and one verdict."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from pilotfish.data import held_out
from pilotfish.experiments.evaluate import evaluate_arm, open_model
from pilotfish.experiments.external.compare import CompareOptions, compare_files
from pilotfish.experiments.external.evaluate_model import evaluate_model_folder
from pilotfish.export.export import ExportOptions, export
from pilotfish.report import write
from pilotfish.run_context import RunContext
from pilotfish.store import Run
from tests.experiments.worlds import World

pytestmark = [
    pytest.mark.skipif(
        find_spec("trl") is None, reason="TRL is absent: pip install 'pilotfish[trl]'"
    ),
    pytest.mark.filterwarnings("ignore"),  # TRL's and its libraries' own
]

ARMS, SEEDS = ("selected", "random", "length_matched"), (0, 1, 2)


@contextmanager
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The configs name files in their folder."""
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        yield


def train(config: str) -> Path:
    """`trl sft --config CONFIG` in this process, on a CPU: TRL's own parser and script."""
    from trl.scripts.sft import main, make_parser

    parsed = make_parser().parse_args_and_config(
        ["--config", config, "--use_cpu", "true", "--bf16", "false", "--disable_tqdm", "true"]
    )
    main(*parsed)
    return Path(yaml.safe_load(Path(config).read_text())["output_dir"])


@pytest.mark.slow
def test_models_trained_by_trl_get_the_verdict_they_would_get_inside(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = world.run(seeds=3, evidence="none", train={
        "max_steps": 2, "use_peft": False, "learning_rate": 1e-2, "max_length": 256,
        "per_device_train_batch_size": 4, "bf16": False,
    })  # fmt: skip
    folder = tmp_path / "x"
    evidence = export(str(run.root), "trl", ExportOptions(arms=ARMS), folder=str(folder))
    assert len(evidence["arms"]) == len(ARMS) * len(SEEDS)
    config = yaml.safe_load((folder / "selected-seed-0.yaml").read_text())
    assert (config["max_steps"], config["max_length"]) == (2, 256)
    results, own, test_rows = [], Run(tmp_path / "inside"), held_out.test_rows(run)
    facts = {"data": None, "held_out": "test", "metric": "loss"}
    held_out.store_test_rows(own, test_rows, facts, force=False)
    with inside(folder, monkeypatch):
        for arm in evidence["arms"]:
            name, seed = arm["arm"], arm["seed"]
            model = folder / train(f"{name}-seed-{seed}.yaml")
            items = folder / f"{name}-{seed}.jsonl"
            evaluate_model_folder(str(run.root), str(model), str(items))
            results.append(f"{name}:{seed}={items}")
            evaluate_arm(RunContext(own), (name, seed), open_model(str(model)), test_rows, "loss")
    there = compare_files(results, str(tmp_path / "verdict"), CompareOptions())
    here = write(own)
    assert there["verdict"] == here["verdict"]
    assert here["verdict"]["difference"] not in (None, 0.0) and here["verdict"]["low"] is not None
    means = {arm["name"]: (arm["mean"], arm["low"], arm["high"]) for arm in here["arms"]}
    assert means == {arm["name"]: (arm["mean"], arm["low"], arm["high"]) for arm in there["arms"]}
    base = evaluate_model_folder(str(run.root), world.strong, str(tmp_path / "base.jsonl"))
    assert base["mean"] != means["selected"][0]  # something was learnt


@pytest.mark.parametrize("chat", [False, True])
def test_trl_learns_the_answer_alone_and_all_of_it(
    world: World, tmp_path: Path, chat: bool
) -> None:
    """Its tokens and mask are those pilotfish trains on, the end of the answer with them."""
    from datasets import load_dataset
    from trl import SFTConfig, SFTTrainer

    from pilotfish.data import Pool
    from pilotfish.models import load_tokenizer
    from pilotfish.tokenization import encode_training
    from tests.tiny.models import tiny_llama

    run = world.run(evidence="none")
    strong = str(tiny_llama(tmp_path / "m", chat=chat, hidden=16, layers=1))
    export(str(run.root), "trl", ExportOptions(strong=strong), folder=str(tmp_path / "x"))
    data = load_dataset("json", data_files=str(tmp_path / "x/selected-seed-0.jsonl"))["train"]
    assert isinstance(data[0]["prompt"], list) == chat
    config = SFTConfig(
        output_dir=str(tmp_path / "o"), use_cpu=True, bf16=False, report_to="none",
        max_length=256, completion_only_loss=True, max_steps=1,
    )  # fmt: skip
    trainer = SFTTrainer(model=strong, args=config, train_dataset=data)
    tokenizer = load_tokenizer(strong)
    learnt = {}
    for row in encode_training(list(Pool.open(run.store).examples()), tokenizer, 256):
        learnt[tuple(row.ids)] = [bool(target) for target in row.target]
    for row in trainer.train_dataset:
        assert [label != -100 for label in row["labels"]] == learnt[tuple(row["input_ids"])]
