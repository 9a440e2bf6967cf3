"""Whole models in int8: near fp32, blind to neighbours, and refused where unsupported."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from pilotfish.engine.int8.linear import Int8Linear, weights_of
from pilotfish.engine.int8.mlp import Int8Mlp, MlpStructure, recognise
from pilotfish.engine.int8.model import quantize, quantize_body
from pilotfish.engine.int8.plain import TorchKernels
from pilotfish.errors import UsageError
from pilotfish.number_formats import int8_supported, name_of, pick_dtype
from tests.engine.shapes import SHAPES, VOCAB, build

TOKENS = torch.randint(0, VOCAB, (2, 24), generator=torch.Generator().manual_seed(0))


def kinds(model: nn.Module) -> set[str]:
    return {type(each).__name__ for each in model.modules()}


def logits(model: nn.Module, tokens: torch.Tensor = TOKENS) -> torch.Tensor:
    with torch.inference_mode():
        return model(tokens).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_near_fp32_in_every_architecture(shape: str) -> None:
    loaded = build(shape, scale=4.0)
    known = logits(loaded.model)
    prepared = quantize(loaded)
    found = logits(prepared.model)
    assert not torch.equal(found, known)
    assert (found - known).norm() < 0.05 * known.norm()
    left = [n for n, m in prepared.model.base_model.named_modules() if weights_of(m) is not None]
    assert not left and prepared.skipped == ()


@pytest.mark.parametrize("shape", ["gpt2", "llama", "neox", "gemma2", "qwen2"])
def test_feed_forward_blocks_are_known(shape: str) -> None:
    twin = quantize_body(build(shape).model)[0]
    assert sum(isinstance(each, Int8Mlp) for each in twin.modules()) == 2


def test_the_fp32_model_is_left_alone_and_shared() -> None:
    loaded = build("llama")
    before = logits(loaded.model)
    twin = quantize_body(loaded.model)[0]
    assert torch.equal(logits(loaded.model), before)
    assert not {"Int8Linear", "Int8Mlp"} & kinds(loaded.model)
    ours, theirs = twin.get_input_embeddings().weight, loaded.model.get_input_embeddings().weight
    assert ours is theirs and twin.lm_head.weight is loaded.model.lm_head.weight


@pytest.mark.parametrize("shape", ["gpt2", "llama"])
def test_a_row_is_the_same_alone_and_in_a_batch(shape: str) -> None:
    """The int8 parts give equal bits; attention and norms of torch may round differently."""
    model = quantize_body(build(shape).model)[0]
    together, alone = logits(model), logits(model, TOKENS[:1])
    assert (together[:1] - alone).norm() < 1e-2 * alone.norm()


def test_not_finite_weights_end_as_not_finite_logits() -> None:
    loaded = build("gpt2")
    with torch.no_grad():
        loaded.model.transformer.h[0].ln_1.weight[3] = float("nan")
    assert not logits(quantize_body(loaded.model)[0]).isfinite().any()


def test_outlying_channels_cost_little() -> None:
    """Norm channels x 30 with their consumers / 30: the same function, harder to round."""
    loaded = build("llama", scale=4.0)
    plain = (logits(quantize_body(loaded.model)[0]) - logits(loaded.model)).norm()
    with torch.no_grad():
        for layer in loaded.model.model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            for norm, users in (
                (layer.input_layernorm, (attention.q_proj, attention.k_proj, attention.v_proj)),
                (layer.post_attention_layernorm, (mlp.gate_proj, mlp.up_proj)),
            ):
                norm.weight[5] *= 30
                for user in users:
                    user.weight[:, 5] /= 30
    hard = (logits(quantize_body(loaded.model)[0]) - logits(loaded.model)).norm()
    assert hard < 3 * plain


class Block(nn.Module):
    """down(act(up(x))), or something that only resembles it."""

    def __init__(self, crooked: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down, self.up = nn.Linear(48, 32), nn.Linear(32, 48)
        self.crooked = crooked

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(nn.functional.silu(self.up(x))) + (x if self.crooked else 0)  # type: ignore[no-any-return]


def test_blocks_are_known_by_what_they_do() -> None:
    with torch.inference_mode():
        structure = recognise(Block())
        assert structure is not None and structure.kind == "silu" and len(structure.wide) == 1
        assert recognise(Block(crooked=True)) is None
        layer = build("llama").model.model.layers[0]
        assert recognise(layer.self_attn) is None and recognise(layer) is None


class Odd(nn.Module):
    """A body with a router, a layer too small for int8, and one linear layer besides."""

    def __init__(self, bulk: int) -> None:
        super().__init__()
        self.router, self.tiny, self.wide = nn.Linear(64, 8), nn.Linear(4, 64), nn.Linear(64, 64)
        self.bulk = nn.Parameter(torch.zeros(bulk, 64))

    def get_output_embeddings(self) -> None:
        return None


def test_routers_and_tiny_layers_are_skipped_by_name() -> None:
    twin, skipped = quantize_body(Odd(bulk=1))
    assert skipped == ("router", "tiny") and isinstance(twin.wide, Int8Linear)


def test_a_model_without_linear_layers_is_refused() -> None:
    with pytest.raises(UsageError, match="4,096 of the 68,864 weights of Odd"):
        quantize_body(Odd(bulk=1000))


def test_devices_and_cpus_without_int8_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = build("llama")
    with pytest.raises(UsageError, match="CPU only, not on meta"):
        quantize(replace(loaded, device=torch.device("meta")))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert not int8_supported()
    with pytest.raises(UsageError, match="dot products"):
        quantize(loaded)
    with pytest.raises(UsageError, match="dot products"):
        pick_dtype("int8", torch.device("cpu"))


def test_names_of_precisions() -> None:
    assert pick_dtype("int8", torch.device("cpu")) == torch.float32
    assert name_of("int8", torch.float32) == "int8"
    assert name_of("auto", torch.float32) == "fp32" and name_of("auto", torch.bfloat16) == "bf16"


@pytest.mark.parametrize("shape", ["gpt2", "llama"])
def test_without_a_compiler_the_numbers_are_nearly_the_same(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = build(shape)
    known = logits(quantize_body(loaded.model)[0])
    for name in ("linear", "mlp"):
        monkeypatch.setattr(f"pilotfish.engine.int8.{name}.kernels", lambda: TorchKernels())
    found = logits(quantize_body(loaded.model)[0])
    assert (found - known).norm() < 1e-2 * known.norm()


def test_a_gate_with_a_bias_and_an_up_without() -> None:
    torch.manual_seed(0)
    gate, up, down = nn.Linear(32, 48), nn.Linear(32, 48, bias=False), nn.Linear(48, 32)
    wide = tuple((one.weight, one.bias) for one in (gate, up))
    structure = MlpStructure(wide, (down.weight, down.bias), "silu")
    x = torch.randn(5, 32)
    with torch.inference_mode():
        known = down(nn.functional.silu(gate(x)) * up(x))
        assert (Int8Mlp(structure)(x) - known).norm() < 0.02 * known.norm()
