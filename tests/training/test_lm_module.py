"""Model and loss together: the shift, the head, padding, and independence of micro-batches."""

import itertools
from typing import Any

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from pilotfish.config import TrainConfig
from pilotfish.losses import KD, LM, Mix
from pilotfish.models import load
from pilotfish.training.data.collate import collate
from pilotfish.training.data.rows import TokenizedRows, encode_rows
from pilotfish.training.lm_module import LMForward, LMWithLoss
from pilotfish.training.loop import accumulate
from pilotfish.training.setup import accelerator, prepare
from tests.training.data.test_collate import row
from tests.training.words import backwards

V = 11


def successor() -> LlamaForCausalLM:
    """A model that at token v says v + 1 (mod V), loudly."""
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=V,
            hidden_size=16,
            intermediate_size=4,
            num_hidden_layers=1,
            num_attention_heads=2,
            tie_word_embeddings=False,
        )
    )
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.model.norm.weight.fill_(10.0)
        model.model.embed_tokens.weight.copy_(torch.eye(V, 16))
        model.lm_head.weight.copy_(torch.roll(torch.eye(V, 16), 1, dims=0))
    return model


def test_logits_at_t_predict_the_token_at_t_plus_1() -> None:
    rising = collate([row([3, 4, 5, 6], [0, 1, 1, 1])])
    same = collate([row([3, 3, 3, 3], [0, 1, 1, 1])])
    falling = collate([row([6, 5, 4, 3], [0, 1, 1, 1])])
    learner = LMWithLoss(successor(), LM())
    assert learner(rising).item() < 1e-4
    assert learner(same).item() > 30
    assert learner(falling).item() > 30


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_lm_is_the_loss_transformers_computes(name: str, request: pytest.FixtureRequest) -> None:
    loaded = load(request.getfixturevalue(name), device="cpu", precision="fp32")
    rows = encode_rows(backwards(6), loaded, 64)
    batch = collate(rows.encoded)
    labels = torch.full_like(batch.ids, -100).flatten()
    labels[batch.source + 1] = batch.targets
    theirs = loaded.model(
        input_ids=batch.ids, attention_mask=batch.mask, labels=labels.view_as(batch.ids)
    ).loss
    ours = LMWithLoss(loaded.model, LM())(batch) / sum(rows.tokens)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def gradient(
    model: Any, learner: LMWithLoss, parts: list[TokenizedRows], tokens: int
) -> tuple[float, Any]:
    model.zero_grad()
    batches = [learner.collate(part) for part in parts]
    loss = accumulate(learner, batches, tokens, bf16=False, accelerator=accelerator())
    grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return float(loss), torch.cat(grads)


@pytest.mark.parametrize("loss", [LM(), KD(temperature=2.0), Mix()], ids=["lm", "kd", "mix"])
@pytest.mark.parametrize("cut", [(4, 4), (2, 2, 2, 2), (1,) * 8, (5, 3), (1, 7)])
def test_the_gradient_does_not_depend_on_micro_batches(
    loss: Any, cut: tuple[int, ...], llama: str, teacher_folder: str
) -> None:
    student = prepare(llama, TrainConfig())
    rows = encode_rows(backwards(8), student.loaded, 64)
    teacher = load(teacher_folder, device="cpu", precision="fp32")
    learner = LMWithLoss(student.model, loss, teacher=teacher.model, vocabulary=257)
    tokens = sum(rows.tokens)
    whole = gradient(student.model, learner, [rows], tokens)
    ends = list(itertools.accumulate(cut))
    turned = [7, 2, 5, 0, 3, 6, 1, 4]  # row order within the step must not matter either
    parts = [rows.take(turned[end - size : end]) for size, end in zip(cut, ends, strict=True)]
    got = gradient(student.model, learner, parts, tokens)
    assert got[0] == pytest.approx(whole[0], abs=1e-6)
    torch.testing.assert_close(got[1], whole[1], rtol=1e-5, atol=1e-6)


def test_padding_changes_nothing(llama: str) -> None:
    student = prepare(llama, TrainConfig())
    learner = LMWithLoss(student.model, LM())
    short, long = row([5, 6, 7], [0, 1, 1]), row(list(range(40)), [0] * 40)
    alone = gradient_of(learner, [short])
    padded = gradient_of(learner, [short, long])
    torch.testing.assert_close(padded, alone, rtol=1e-5, atol=1e-7)


def gradient_of(learner: LMWithLoss, rows: list[Any]) -> torch.Tensor:
    learner.zero_grad()
    learner(collate(rows)).backward()
    return torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])


def test_blocks_of_the_head_change_nothing(llama: str, teacher_folder: str) -> None:
    student = prepare(llama, TrainConfig())
    teacher = load(teacher_folder, device="cpu", precision="fp32").model
    learner = LMWithLoss(student.model, Mix(), teacher=teacher, vocabulary=257)
    rows = encode_rows(backwards(8), student.loaded, 64).encoded
    whole = gradient_of(learner, rows)
    learner._block = 3
    torch.testing.assert_close(gradient_of(learner, rows), whole, rtol=1e-5, atol=1e-6)


def test_rows_without_supervised_tokens_give_zero_and_finite_gradients(llama: str) -> None:
    learner = LMWithLoss(prepare(llama, TrainConfig()).model, LM())
    loss = learner(collate([row([1, 2, 3], [1, 0, 0])]))
    loss.backward()
    assert loss.item() == 0
    grads = [p.grad for p in learner.parameters() if p.grad is not None]
    assert grads and all((g == 0).all() for g in grads)


def test_bf16_stays_near_fp32(llama: str) -> None:
    student = prepare(llama, TrainConfig())
    rows = encode_rows(backwards(8), student.loaded, 64)
    learner = LMWithLoss(student.model, LM())
    exact = gradient(student.model, learner, [rows], sum(rows.tokens))[0]
    rough = float(
        accumulate(
            learner, [learner.collate(rows)], sum(rows.tokens), bf16=True, accelerator=accelerator()
        )
    )
    assert rough == pytest.approx(exact, rel=1e-2)
    assert rough != exact


def test_a_soft_capped_head_is_read_through_the_model() -> None:
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=V,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            final_logit_softcapping=0.05,
            attn_implementation="eager",
        )
    ).eval()
    reader, batch = LMForward(model), collate([row([1, 2, 3], [0, 1, 1])])
    assert not reader.separate
    with torch.no_grad():
        ours = reader.logits(reader.rows(batch))
        torch.testing.assert_close(ours, model(batch.ids).logits[0, :2])


def test_a_plain_head_is_run_on_supervised_positions_only(llama: str) -> None:
    model = prepare(llama, TrainConfig()).model
    reader, batch = LMForward(model), collate([row([1, 2, 3, 4], [0, 0, 0, 1])])
    assert reader.separate
    with torch.no_grad():
        logits = reader.logits(reader.rows(batch))
        assert logits.shape == (1, 257)
        torch.testing.assert_close(logits[0], model(batch.ids).logits[0, 2])


def test_the_teacher_is_no_part_of_the_learner(llama: str, teacher_folder: str) -> None:
    teacher = load(teacher_folder, device="cpu", precision="fp32").model
    student = prepare(llama, TrainConfig())
    learner = LMWithLoss(student.model, KD(), teacher=teacher, vocabulary=257)
    assert sum(p.numel() for p in learner.parameters()) == student.loaded.parameters
    learner.train()
    assert not teacher.training
    learner(collate([row([1, 2, 3], [0, 1, 1])])).backward()
    assert all(p.grad is None for p in teacher.parameters())


def test_a_padded_head_of_the_teacher_changes_nothing(llama: str, teacher_folder: str) -> None:
    teacher = load(teacher_folder, device="cpu", precision="fp32").model
    student = prepare(llama, TrainConfig())
    batch = collate([row([1, 2, 3], [0, 1, 1])])
    plain = LMWithLoss(student.model, KD(), teacher=teacher, vocabulary=257)(batch)
    teacher.resize_token_embeddings(300, mean_resizing=False)
    padded = LMWithLoss(student.model, KD(), teacher=teacher, vocabulary=257)(batch)
    torch.testing.assert_close(padded, plain)
