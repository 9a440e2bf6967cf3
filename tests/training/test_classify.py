"""Training classifiers: no cut changes a gradient, seeds decide every bit, labels teach."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pilotfish.config import TrainConfig
from pilotfish.engine.classify import classify
from pilotfish.errors import DataError, UsageError
from pilotfish.losses import make_loss
from pilotfish.models import identify, load_classifier
from pilotfish.records import Example
from pilotfish.store import run_lock
from pilotfish.training.checkpoint import Checkpoints
from pilotfish.training.classifier_module import (
    ClassifierRows,
    ClassifierWithLoss,
    encode_classified,
)
from pilotfish.training.classify import train_classifier
from pilotfish.training.loop import accumulate
from pilotfish.training.setup import accelerator, add_adapters
from pilotfish.training.validation import Validation
from tests.tiny.encoders import tiny_classifier, tiny_encoder
from tests.tiny.models import tiny_gpt2, tiny_llama

CLASSES = ("few", "many")
SOFT = ("soft_ce", "kd", "kd(temperature=2)", "logconf", "product", "mix(lm=0.5, kd=0.5)")
HARD = ("lm", "lm(smoothing=0.1)", "dft")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    at = tmp_path_factory.mktemp
    return {
        "bert": str(tiny_encoder(at("bert"), "bert")),
        "distilbert": str(tiny_encoder(at("distilbert"), "distilbert")),
        "electra": str(tiny_encoder(at("electra"), "electra")),
        "llama": str(tiny_llama(at("llama"))),
        "gpt2": str(tiny_gpt2(at("gpt2"))),
        "dropping": str(tiny_encoder(at("dropping"), "bert", dropout=0.2)),
    }


def texts(n: int) -> list[Example]:
    """Texts of a's, or of b's: lengths 1 to 9 in no order."""
    return [
        Example(f"r{i}", "d", i, text="ab"[i % 2] * (1 + 5 * i % 9), label=CLASSES[i % 2])
        for i in range(n)
    ]


def hard(n: int) -> Any:
    return np.arange(n, dtype=np.int64) % 2


def soft(n: int) -> Any:
    q = np.random.default_rng(0).uniform(0.1, 0.9, n)
    return np.stack([q, 1 - q], axis=1)


def settings(**changes: Any) -> TrainConfig:
    plain = TrainConfig(use_peft=False, per_device_train_batch_size=4, max_steps=6)
    return plain.changed({"learning_rate": 1e-3, **changes})


def teach(model: str, folder: Path, **more: Any) -> dict[str, Any]:
    config = more.pop("config", settings())
    how = {"classes": CLASSES, "targets": hard(16), "seed": 3, **more}
    return train_classifier(texts(16), model, config, folder=folder, **how)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "electra", "llama", "gpt2"])
def test_the_first_loss_is_the_logarithm_of_the_number_of_classes(
    kind: str, models: dict[str, str], tmp_path: Path
) -> None:
    facts = teach(models[kind], tmp_path, config=settings(max_steps=1))
    assert facts["first_loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert facts["classes"] == list(CLASSES) and facts["rows"] == 16


def gradient(
    pupil: ClassifierWithLoss, parts: list[ClassifierRows], mass: float
) -> tuple[float, torch.Tensor]:
    pupil.zero_grad()
    batches = [pupil.collate(part) for part in parts]
    loss = accumulate(pupil, batches, mass, bf16=False, accelerator=accelerator())
    grads = [p.grad.flatten() for p in pupil.parameters() if p.grad is not None]
    return float(loss), torch.cat(grads)


def pupil_of(folder: str, loss: str, n: int, targets: Any, weights: Any = None) -> Any:
    loaded = load_classifier(folder, CLASSES, device="cpu", precision="fp32")
    student = add_adapters(loaded, settings(), task="SEQ_CLS")
    rows = encode_classified(texts(n), targets, weights, loaded, 64)
    pupil = ClassifierWithLoss(student.causal, make_loss(loss), classes=2)
    pupil.progress = 0.5
    return pupil, rows


@pytest.mark.parametrize("loss", [*SOFT, *HARD])
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_the_gradient_does_not_depend_on_micro_batches_or_padding(
    kind: str, loss: str, models: dict[str, str], tmp_path: Path
) -> None:
    head = str(tiny_classifier(tmp_path, Path(models[kind]), CLASSES))
    weights = np.linspace(0.5, 2, 8)
    pupil, rows = pupil_of(head, loss, 8, soft(8), weights)
    mass = sum(rows.mass)
    assert mass == pytest.approx(weights.sum())
    turn = [3, 0, 7, 1, 6, 2, 5, 4]
    fresh = pupil.state()
    whole = gradient(pupil, [rows.take(turn)], mass)
    for cut in ((4, 4), (1,) * 8, (1, 5, 2)):
        ends = list(itertools.accumulate(cut))
        parts = [rows.take(turn[end - size : end]) for size, end in zip(cut, ends, strict=True)]
        pupil.load_state(fresh)  # a window that saw the same rows twice is another one
        got = gradient(pupil, parts, mass)
        assert got[0] == pytest.approx(whole[0], abs=1e-6)
        torch.testing.assert_close(got[1], whole[1], rtol=1e-4, atol=5e-6)


def test_the_window_of_logconf_sees_a_whole_step_before_it_is_learnt(
    models: dict[str, str],
) -> None:
    pupil, rows = pupil_of(models["dropping"], "logconf(warmup=0)", 8, soft(8))
    pupil.train()
    torch.manual_seed(5)
    drawn = torch.get_rng_state()
    seen: list[torch.Tensor | None] = []
    real = pupil.loss
    pupil.loss = lambda logits, inputs: (seen.append(inputs.bias), real(logits, inputs))[1]
    gradient(pupil, [rows.take([0, 1, 2]), rows.take([3, 4])], 5)
    assert pupil.training and not pupil.previewing
    assert len(seen) == 2 and seen[0] is not None and seen[1] is not None
    assert torch.equal(seen[0], seen[1]), "both micro-batches get the same bias"
    np.testing.assert_allclose(pupil.state()["window_q"], rows.soft[:5], atol=1e-6)
    other, _ = pupil_of(models["bert"], "logconf", 8, soft(8))
    other.load_state(pupil.state())
    assert all(torch.equal(value, other.state()[name]) for name, value in pupil.state().items())
    plain, _ = pupil_of(models["dropping"], "soft_ce", 8, soft(8))
    plain.train()
    torch.set_rng_state(drawn)
    gradient(plain, [rows.take([0, 1, 2]), rows.take([3, 4])], 5)
    without = torch.get_rng_state()
    torch.set_rng_state(drawn)
    gradient(pupil, [rows.take([0, 1, 2]), rows.take([3, 4])], 5)
    assert torch.equal(torch.get_rng_state(), without), "looking draws nothing"


def test_logconf_in_short_trainings_keeps_to_the_teachers_shares(
    models: dict[str, str], tmp_path: Path
) -> None:
    """With a window of how the student was, it ends with one class for everything."""
    targets = np.where(np.eye(2)[hard(64)] > 0, 0.8, 0.2)
    config = settings(
        loss="logconf", max_steps=60, learning_rate=5e-3, per_device_train_batch_size=8
    )
    train_classifier(
        texts(64), models["bert"], config, classes=CLASSES, targets=targets, seed=3,
        folder=tmp_path,
    )  # fmt: skip
    predicted = predictions(tmp_path).argmax(1)
    assert (predicted == hard(16)).mean() > 0.9


def test_reading_a_step_before_learning_it_is_in_the_ledger(
    models: dict[str, str], tmp_path: Path
) -> None:
    cost = {
        loss: teach(models["bert"], tmp_path / loss, targets=soft(16), config=settings(loss=loss))[
            "flops"
        ]
        for loss in ("soft_ce", "logconf")
    }
    assert cost["logconf"] == pytest.approx(cost["soft_ce"] * 4 / 3)


def test_certain_soft_labels_teach_what_hard_ones_do(
    models: dict[str, str], tmp_path: Path
) -> None:
    certain = np.eye(2)[hard(16)]
    plain = teach(models["bert"], tmp_path / "hard")
    for loss in ("soft_ce", "kd"):
        facts = teach(models["bert"], tmp_path / loss, targets=certain, config=settings(loss=loss))
        assert facts["final_loss"] == pytest.approx(plain["final_loss"], abs=1e-5)
    assert predictions(tmp_path / "soft_ce") == pytest.approx(
        predictions(tmp_path / "hard"), abs=1e-4
    )


def predictions(folder: Path) -> Any:
    loaded = load_classifier(str(folder), CLASSES, device="cpu", precision="fp32")
    return classify(loaded, texts(16)).log_probs


@pytest.mark.parametrize("kind", ["bert", "distilbert", "llama", "gpt2", "dropping"])
def test_the_seed_decides_every_bit(kind: str, models: dict[str, str], tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        torch.manual_seed(hash(name) % 1000)  # what the caller's generator is at must not matter
        teach(models[kind], tmp_path / name, seed=seed)
    first = identify(str(tmp_path / "a"))
    assert identify(str(tmp_path / "b")) == first != identify(str(tmp_path / "c"))


def test_rows_may_come_in_any_order(models: dict[str, str], tmp_path: Path) -> None:
    turn = np.random.default_rng(1).permutation(16)
    teach(models["bert"], tmp_path / "a", targets=soft(16), config=settings(loss="soft_ce"))
    train_classifier(
        [texts(16)[i] for i in turn], models["bert"], settings(loss="soft_ce"), classes=CLASSES,
        targets=soft(16)[turn], seed=3, folder=tmp_path / "b",
    )  # fmt: skip
    assert identify(str(tmp_path / "a")) == identify(str(tmp_path / "b"))


def test_dropout_is_in_force_while_learning_and_not_after(
    models: dict[str, str], tmp_path: Path
) -> None:
    facts = teach(models["dropping"], tmp_path)
    assert facts["dropout"] == pytest.approx(0.2)
    assert np.array_equal(predictions(tmp_path), predictions(tmp_path))


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_classifier_learns_and_says_so_from_its_folder(
    kind: str, models: dict[str, str], tmp_path: Path
) -> None:
    config = settings(max_steps=60, learning_rate=5e-3)
    facts = teach(models[kind], tmp_path, config=config)
    assert facts["final_loss"] < 0.1
    assert (predictions(tmp_path).argmax(1) == hard(16)).all()
    again = teach(str(tmp_path), tmp_path / "on", config=settings(max_steps=1))
    assert again["first_loss"] < 0.1  # a trained head is gone on with, not made again


@pytest.mark.parametrize("kind", ["bert", "distilbert", "electra", "llama", "gpt2"])
def test_lora_trains_the_head_too(kind: str, models: dict[str, str], tmp_path: Path) -> None:
    config = settings(use_peft=True, lora_r=2, max_steps=12, learning_rate=3e-3)
    facts = teach(models[kind], tmp_path, config=config)
    assert facts["peft"] and facts["trainable_parameters"] < facts["parameters"]
    loaded = load_classifier(str(tmp_path), CLASSES, device="cpu", precision="fp32")
    body = f"{loaded.model.base_model_prefix}."
    heads = {n: w for n, w in loaded.model.named_parameters() if not n.startswith(body)}
    assert heads and all(w.abs().sum() > 0 for w in heads.values())
    assert (tmp_path / "adapter" / "adapter_config.json").is_file()
    assert np.ptp(predictions(tmp_path)[:, 0]) > 1e-3
    new = set(dict(loaded.model.named_modules())) - {""}
    assert not any("lora" in name or "modules_to_save" in name for name in new)


def test_lora_in_bf16_keeps_what_learns_in_fp32(models: dict[str, str]) -> None:
    loaded = load_classifier(models["bert"], CLASSES, device="cpu", precision="fp32")
    student = add_adapters(loaded, settings(use_peft=True, bf16=True), task="SEQ_CLS")
    dtypes = {p.dtype for p in student.model.parameters() if p.requires_grad}
    assert dtypes == {torch.float32}
    assert loaded.model.bert.embeddings.word_embeddings.weight.dtype == torch.bfloat16


def test_weights_count_rows_and_weight_0_removes_one(
    models: dict[str, str], tmp_path: Path
) -> None:
    weights = np.ones(16)
    teach(models["bert"], tmp_path / "equal", weights=weights)
    teach(models["bert"], tmp_path / "none")
    np.testing.assert_allclose(
        predictions(tmp_path / "equal"), predictions(tmp_path / "none"), atol=1e-6
    )
    weights[12:] = 0
    facts = teach(models["bert"], tmp_path / "zero", weights=weights)
    assert (facts["rows"], facts["unsupervised"]) == (12, 4)
    train_classifier(
        texts(12), models["bert"], settings(), classes=CLASSES, targets=hard(12), seed=3,
        folder=tmp_path / "less",
    )  # fmt: skip
    np.testing.assert_allclose(
        predictions(tmp_path / "zero"), predictions(tmp_path / "less"), atol=1e-6
    )


def test_long_texts_are_cut_and_counted(models: dict[str, str], tmp_path: Path) -> None:
    facts = teach(models["bert"], tmp_path, config=settings(max_length=6))
    assert facts["truncated"] == sum(len(row.text or "") > 4 for row in texts(16))  # [CLS], [SEP]
    assert facts["input_tokens"] == sum(min(len(row.text or "") + 2, 6) for row in texts(16))


@pytest.mark.parametrize("loss", ["mix(lm=1, kd=0, base=0.1)", "kd(correct=0.2)"])
def test_losses_that_need_what_classes_do_not_have_are_refused(
    loss: str, models: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="which no class has"):
        teach(models["bert"], tmp_path, targets=soft(16), config=settings(loss=loss))


def test_targets_that_do_not_fit_are_refused(models: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the labels are hard"):
        teach(models["bert"], tmp_path, config=settings(loss="soft_ce"))
    bad: list[tuple[Any, str]] = [
        (hard(15), "16 texts have 15 targets"),
        (hard(16) + 1, "classes from 0 to 1"),
        (soft(16) * 2, "distributions over 2 classes"),
        (np.full((16, 2), np.nan), "distributions over 2 classes"),
        (np.full((16, 3), 1 / 3), "distributions over 2 classes"),
    ]
    for targets, words in bad:
        with pytest.raises(DataError, match=words):
            teach(models["bert"], tmp_path, targets=targets)
    with pytest.raises(DataError, match="can be learnt"):
        teach(models["bert"], tmp_path, weights=np.zeros(16))


def test_validation_follows_both_kinds_of_labels_and_changes_nothing(
    models: dict[str, str], tmp_path: Path
) -> None:
    config = settings(max_steps=40, learning_rate=3e-3)
    held = Validation(texts(8), {"weak": soft(8), "gold": hard(8)})
    facts = teach(models["dropping"], tmp_path / "seen", config=config, validation=held)
    teach(models["dropping"], tmp_path / "unseen", config=config)
    assert identify(str(tmp_path / "seen")) == identify(str(tmp_path / "unseen"))
    weak, gold = facts["validation"]["weak"], facts["validation"]["gold"]
    assert [point["step"] for point in weak] == [10, 20, 30, 40]  # an epoch is four steps
    assert gold[-1]["loss"] < gold[0]["loss"] < math.log(2) + 0.1
    last = predictions(tmp_path / "seen")[:8]
    assert gold[-1]["accuracy"] == (last.argmax(1) == hard(8)).mean()
    assert weak[-1]["loss"] == pytest.approx(-(soft(8) * last).sum(1).mean(), abs=1e-5)
    assert "kept_step" not in facts


@pytest.mark.parametrize("peft", [False, True])
def test_stopping_keeps_the_weights_of_the_best_epoch(
    peft: bool, models: dict[str, str], tmp_path: Path
) -> None:
    config = settings(max_steps=40, learning_rate=1e-2, use_peft=peft, lr_scheduler_type="constant")
    held = Validation(texts(8), {"weak": 1 - np.eye(2)[hard(8)], "gold": hard(8)}, stop="weak")
    facts = teach(models["bert"], tmp_path / "m", config=config, validation=held)
    curve = facts["validation"]["weak"]  # all wrong: the more is learnt, the worse it gets
    best = min(curve, key=lambda point: point["loss"])
    assert facts["stopped_by"] == "weak" and facts["kept_step"] == best["step"] < 40
    kept = predictions(tmp_path / "m")[:8]
    assert -kept[np.arange(8), 1 - hard(8)].mean() == pytest.approx(best["loss"], abs=1e-4)
    with pytest.raises(UsageError, match="no validation labels 'other'"):
        Validation(texts(8), {"weak": hard(8)}, stop="other")


@pytest.mark.parametrize("loss", ["logconf(warmup=0)", "soft_ce"])
def test_a_killed_training_goes_on_to_the_same_bits(
    loss: str, models: dict[str, str], tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    def kill(step: int, steps: int, nats: float) -> None:
        if step == 10:
            raise Killed

    config = settings(loss=loss, max_steps=20)
    how: dict[str, Any] = {"config": config, "targets": soft(16)}
    teach(models["dropping"], tmp_path / "whole", **how)
    with run_lock(tmp_path / "run") as store:
        kept = Checkpoints(store, "train", "key", steps=4)
        with pytest.raises(Killed):
            teach(models["dropping"], tmp_path / "no", checkpoints=kept, on_step=kill, **how)
        assert kept.names()[0].endswith("00000008")
        teach(models["dropping"], tmp_path / "again", checkpoints=kept, **how)
    assert identify(str(tmp_path / "again")) == identify(str(tmp_path / "whole"))
    for name in ("model.safetensors", "log.jsonl"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_killed_training_remembers_its_validation(models: dict[str, str], tmp_path: Path) -> None:
    def kill(step: int, steps: int, nats: float) -> None:
        if step == 30:
            raise KeyboardInterrupt

    held = Validation(texts(8), {"weak": 1 - np.eye(2)[hard(8)], "gold": hard(8)}, stop="weak")
    config = settings(max_steps=40, learning_rate=1e-2, lr_scheduler_type="constant")
    how: dict[str, Any] = {"config": config, "validation": held}
    whole = teach(models["dropping"], tmp_path / "whole", **how)
    assert whole["kept_step"] < 28, "kept before the checkpoint that is gone on from"
    with run_lock(tmp_path / "run") as store:
        kept = Checkpoints(store, "train", "key", steps=4)
        with pytest.raises(KeyboardInterrupt):
            teach(models["dropping"], tmp_path / "no", checkpoints=kept, on_step=kill, **how)
        assert kept.names()[0].endswith("00000028")
        assert teach(models["dropping"], tmp_path / "again", checkpoints=kept, **how) == whole
    assert identify(str(tmp_path / "again")) == identify(str(tmp_path / "whole"))
