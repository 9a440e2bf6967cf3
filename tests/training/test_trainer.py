"""One arm from rows to a model folder."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pilotfish.config import TrainConfig
from pilotfish.errors import DataError, UsageError
from pilotfish.models import load
from pilotfish.training.data.collate import collate
from pilotfish.training.data.rows import encode_rows
from pilotfish.training.save import save
from pilotfish.training.setup import build_optimizer, prepare, seeded
from pilotfish.training.trainer import train
from tests.training.conftest import weights
from tests.training.words import backwards, pair

SMALL = TrainConfig(per_device_train_batch_size=8, max_steps=5)
KD = SMALL.model_copy(update={"loss": "kd"})


def test_the_loss_goes_down_and_the_folder_loads(llama: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int, float]] = []
    facts = train(
        backwards(64),
        llama,
        SMALL,
        seed=0,
        folder=tmp_path,
        steps=45,
        learning_rate=2e-3,
        on_step=lambda *look: seen.append(look),
    )
    assert facts["final_loss"] < 0.6 * facts["first_loss"]
    assert facts["rows"] == 64 and facts["steps"] == 45 and facts["epochs"] == 45 * 8 / 64
    assert facts["unsupervised"] == facts["truncated"] == 0
    assert facts["trainable_parameters"] == facts["parameters"]
    assert [look[:2] for look in seen] == [(10, 45), (20, 45), (30, 45), (40, 45), (45, 45)]
    load(str(tmp_path), device="cpu")
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(1, 46))
    assert set(log[0]) == {"step", "loss", "lr", "tokens"}
    assert log[0]["loss"] == facts["first_loss"]
    assert sum(line["tokens"] for line in log) == facts["tokens_seen"]
    json.dumps(facts, allow_nan=False)


def folder_bytes(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("use_peft", [False, True])
def test_the_same_call_writes_the_same_bytes(use_peft: bool, llama: str, tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"use_peft": use_peft, "lora_dropout": 0.1})
    rows = backwards(20)
    facts = train(rows, llama, config, seed=3, folder=tmp_path / "a")
    torch.manual_seed(99)  # whatever else the process has drawn
    again = train(rows[::-1], llama, config, seed=3, folder=tmp_path / "b")
    assert facts == again
    assert folder_bytes(tmp_path / "a") == folder_bytes(tmp_path / "b")
    train(rows, llama, config, seed=4, folder=tmp_path / "c")
    assert weights(tmp_path / "a") != weights(tmp_path / "c")


def test_torch_is_left_as_it_was(llama: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(backwards(8), llama, SMALL, seed=0, folder=tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()


def after_a_step(folder: str, config: TrainConfig) -> Any:
    """A student moved away from where it started."""
    with seeded(0):
        student = prepare(folder, config)
    trained = [p for p in student.model.parameters() if p.requires_grad]
    torch.manual_seed(0)
    for weight in trained:
        weight.grad = torch.randn_like(weight)
    optimizer = build_optimizer(trained, 0.0)
    optimizer.param_groups[0]["lr"] = 1e-2
    optimizer.step()
    return student


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("use_peft", [False, True])
def test_saved_weights_give_the_logits_in_memory(
    name: str, use_peft: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    config = SMALL.model_copy(update={"use_peft": use_peft})
    student = after_a_step(request.getfixturevalue(name), config)
    ids = torch.arange(12)[None]
    with torch.no_grad():
        before = student.model.eval()(ids).logits
        save(student, tmp_path)
        loaded = load(str(tmp_path), device="cpu", precision="fp32")
        torch.testing.assert_close(loaded.model(ids).logits, before, rtol=1e-4, atol=1e-5)
        base = load(request.getfixturevalue(name), device="cpu", precision="fp32")
        assert (base.model(ids).logits - before).abs().max() > 1e-2
    adapter = tmp_path / "adapter" / "adapter_model.safetensors"
    assert adapter.is_file() == use_peft
    assert not use_peft or any("lora_A" in key for key in load_file(adapter))


def test_lora_learns_with_few_parameters(llama: str, tmp_path: Path) -> None:
    # LoRA leaves the embeddings alone, and random ones are too small to prefer any token.
    base = load(llama, device="cpu", precision="fp32")
    base.model.get_input_embeddings().weight.mul_(10)
    base.model.save_pretrained(tmp_path / "base")
    base.tokenizer.save_pretrained(tmp_path / "base")
    config = SMALL.model_copy(update={"use_peft": True, "lora_r": 2, "learning_rate": 2e-2})
    facts = train(backwards(64), str(tmp_path / "base"), config, seed=0, folder=tmp_path, steps=30)
    assert facts["peft"]
    assert 0 < facts["trainable_parameters"] < facts["parameters"] / 4
    assert facts["final_loss"] < facts["first_loss"] - 2


def test_rows_with_nothing_to_learn_are_left_out_and_counted(llama: str, tmp_path: Path) -> None:
    rows = backwards(6)
    blind = pair("x" * 300, "lost behind the window", row=6)
    facts = train([*rows, blind], llama, SMALL, seed=0, folder=tmp_path / "a")
    assert (facts["rows"], facts["unsupervised"]) == (6, 1)
    train(rows, llama, SMALL, seed=0, folder=tmp_path / "b")
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


def test_cut_rows_are_counted(llama: str, tmp_path: Path) -> None:
    rows = [*backwards(4), pair("say a", "a" * 500, row=4)]
    facts = train(rows, llama, SMALL, seed=0, folder=tmp_path)
    assert (facts["rows"], facts["truncated"]) == (5, 1)


@pytest.mark.parametrize("rows", [[], [pair("x" * 300, "gone")]], ids=["none", "all cut"])
def test_no_usable_row_is_said_in_words(rows: list[Any], llama: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has a token to learn from"):
        train(rows, llama, SMALL, seed=0, folder=tmp_path)


def test_kd_pulls_the_student_to_its_teacher(
    llama: str, teacher_folder: str, tmp_path: Path
) -> None:
    teacher = load(teacher_folder, device="cpu", precision="fp32")
    config = KD.model_copy(update={"learning_rate": 5e-3})
    facts = train(backwards(32), llama, config, seed=0, folder=tmp_path, steps=40, teacher=teacher)
    assert facts["final_loss"] < 0.5 * facts["first_loss"]
    assert "KL(teacher || student)" in facts["loss_in_words"]


def test_a_student_that_is_its_teacher_stays(llama: str, tmp_path: Path) -> None:
    teacher = load(llama, device="cpu", precision="fp32")
    facts = train(backwards(8), llama, KD, seed=0, folder=tmp_path, teacher=teacher)
    assert facts["first_loss"] < 1e-6


def test_kd_across_tokenizers_is_refused_naming_both(
    llama: str, stranger: str, tmp_path: Path
) -> None:
    teacher = load(stranger, device="cpu", precision="fp32")
    with pytest.raises(UsageError) as caught:
        train(backwards(8), llama, KD, seed=0, folder=tmp_path, teacher=teacher)
    assert llama in str(caught.value) and stranger in str(caught.value)
    assert "relabel" in (caught.value.hint or "")
    assert not list(tmp_path.iterdir())


def test_kd_without_a_teacher_is_refused(llama: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a teacher"):
        train(backwards(8), llama, KD, seed=0, folder=tmp_path)


def test_a_teacher_that_reads_too_little_is_refused(
    llama: str, short_sighted: str, tmp_path: Path
) -> None:
    teacher = load(short_sighted, device="cpu", precision="fp32")
    with pytest.raises(UsageError, match="reads only 8") as caught:
        train(backwards(8), llama, KD, seed=0, folder=tmp_path, teacher=teacher)
    assert "max_length=8" in (caught.value.hint or "")


def test_kd_of_weight_zero_never_calls_the_teacher(llama: str, tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"loss": "mix(lm=1, kd=0)"})
    bomb: Any = object()
    train(backwards(16), llama, config, seed=0, folder=tmp_path / "mix", teacher=bomb)
    train(backwards(16), llama, SMALL, seed=0, folder=tmp_path / "lm")
    assert weights(tmp_path / "mix") == weights(tmp_path / "lm")


def test_an_interrupt_passes_through_and_leaves_no_model(llama: str, tmp_path: Path) -> None:
    def interrupt(step: int, steps: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(backwards(8), llama, SMALL, seed=0, folder=tmp_path, on_step=interrupt)
    assert not list(tmp_path.iterdir())


def test_divergence_is_said_and_not_saved(llama: str, tmp_path: Path) -> None:
    wild = SMALL.model_copy(update={"learning_rate": 9.0, "max_grad_norm": 1e30})
    broken = after_a_step(llama, wild)
    with torch.no_grad():
        broken.model.lm_head.weight.fill_(torch.nan)
    broken.model.save_pretrained(tmp_path / "nan")
    broken.loaded.tokenizer.save_pretrained(tmp_path / "nan")
    with pytest.raises(UsageError, match="diverged: the loss is nan at step 1"):
        train(backwards(8), str(tmp_path / "nan"), wild, seed=0, folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_steps_below_one_and_several_rates_are_refused(llama: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 1 step"):
        train(backwards(8), llama, SMALL, seed=0, folder=tmp_path, steps=0)
    several = SMALL.model_copy(update={"learning_rate": [1e-3, 1e-4]})
    with pytest.raises(UsageError, match="one learning rate, not 2"):
        train(backwards(8), llama, several, seed=0, folder=tmp_path)
    facts = train(backwards(8), llama, several, seed=0, folder=tmp_path, learning_rate=1e-4)
    assert facts["learning_rate"] == 1e-4


def test_the_teacher_reads_the_ids_the_student_reads(
    llama: str, teacher_folder: str, tmp_path: Path
) -> None:
    teacher = load(teacher_folder, device="cpu", precision="fp32")
    read: list[list[int]] = []
    hook = teacher.model.base_model.register_forward_pre_hook(
        lambda _module, _args, kwargs: read.extend(kwargs["input_ids"].tolist()), with_kwargs=True
    )
    train(backwards(8), llama, KD, seed=0, folder=tmp_path, steps=1, teacher=teacher)
    hook.remove()
    student = load(llama, device="cpu", precision="fp32")
    rows = encode_rows(backwards(8), student, 64).encoded
    longest_first = sorted(collate(rows).ids.tolist())
    assert sorted(read[-8:]) == longest_first


def test_flops_are_the_ledgers(llama: str, teacher_folder: str, tmp_path: Path) -> None:
    teacher = load(teacher_folder, device="cpu", precision="fp32")
    lm = train(backwards(8), llama, SMALL, seed=0, folder=tmp_path / "lm")
    kd = train(backwards(8), llama, KD, seed=0, folder=tmp_path / "kd", teacher=teacher)
    lora = train(
        backwards(8), llama, SMALL.model_copy(update={"use_peft": True}), seed=0,
        folder=tmp_path / "lora",
    )  # fmt: skip
    student = load(llama, device="cpu")
    lengths = [len(row.ids) for row in encode_rows(backwards(8), student, 64).encoded]
    context = sum(n * n for n in lengths) / sum(lengths) / 2
    body = student.parameters - 257 * 32
    token = 2 * body + 2 * 257 * 32 + 4 * 2 * 32 * context
    assert lm["input_tokens_seen"] == 5 * sum(lengths)
    assert lm["flops"] == pytest.approx(3 * token * lm["input_tokens_seen"])
    assert kd["flops"] > lm["flops"]
    assert lora["flops"] == pytest.approx(2 / 3 * lm["flops"], rel=1e-6)


@pytest.mark.parametrize(("use_peft", "dtype"), [(False, torch.float32), (True, torch.bfloat16)])
def test_bf16_trains_near_fp32(
    use_peft: bool, dtype: torch.dtype, llama: str, tmp_path: Path
) -> None:
    config = SMALL.model_copy(update={"use_peft": use_peft, "bf16": True})
    rough = train(backwards(16), llama, config, seed=0, folder=tmp_path / "bf16")
    exact = train(
        backwards(16), llama, config.model_copy(update={"bf16": False}), seed=0,
        folder=tmp_path / "fp32",
    )  # fmt: skip
    assert rough["bf16"] and not exact["bf16"]
    assert rough["final_loss"] == pytest.approx(exact["final_loss"], rel=2e-2)
    saved = load_file(tmp_path / "bf16" / "model.safetensors")
    assert {weight.dtype for weight in saved.values()} == {dtype}
