"""Tiny random models of the shapes people use, each with logits far from zero."""

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)  # fmt: skip

from pilotfish.models import Loaded, tokenizer_digest, window_of
from tests.tiny.models import byte_tokenizer

VOCAB = 300
COMMON: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None,
}  # fmt: skip
NEOX = {k: v for k, v in COMMON.items() if k != "num_key_value_heads"}

SHAPES: dict[str, Any] = {
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=128,
        bos_token_id=0, eos_token_id=1,
    ),
    "llama": lambda: LlamaConfig(**COMMON),
    "qwen2": lambda: Qwen2Config(**COMMON, tie_word_embeddings=True),
    "qwen3": lambda: Qwen3Config(**COMMON, head_dim=8, tie_word_embeddings=True),
    "smollm3": lambda: SmolLM3Config(**{**COMMON, "pad_token_id": 0}),
    "phi3": lambda: Phi3Config(**{**COMMON, "pad_token_id": 0}),
    "gemma": lambda: GemmaConfig(**COMMON, head_dim=8),
    "gemma3": lambda: Gemma3TextConfig(
        **COMMON, head_dim=8, query_pre_attn_scalar=8, sliding_window=8,
        layer_types=["sliding_attention", "full_attention"],
    ),
    "bloom": lambda: BloomConfig(vocab_size=VOCAB, hidden_size=32, n_layer=2, n_head=4),
    "mistral": lambda: MistralConfig(**COMMON, sliding_window=8),
    "gemma2": lambda: Gemma2Config(
        **COMMON, head_dim=8, query_pre_attn_scalar=8, sliding_window=8,
        final_logit_softcapping=0.5, attn_logit_softcapping=0.5,
    ),
    "neox": lambda: GPTNeoXConfig(**NEOX),
    "opt": lambda: OPTConfig(
        vocab_size=VOCAB, hidden_size=32, ffn_dim=64, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=128, word_embed_proj_dim=16,
        bos_token_id=0, eos_token_id=1, pad_token_id=1,
    ),
    "granite": lambda: GraniteConfig(**COMMON, logits_scaling=3.0),
    "cohere": lambda: CohereConfig(**COMMON, logit_scale=0.5),
}  # fmt: skip


def build(shape: str, *, seed: int = 0, scale: float = 8.0, dtype: Any = torch.float32) -> Loaded:
    """A random model wrapped as if loaded; weights scaled up so that logits differ visibly."""
    config = SHAPES[shape]()
    torch.manual_seed(seed)
    capped = getattr(config, "attn_logit_softcapping", None)
    model = AutoModelForCausalLM.from_config(
        config, attn_implementation="eager" if capped else None
    )
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(scale)
    tokenizer = byte_tokenizer()
    return Loaded(
        model=model.to(dtype).eval().requires_grad_(False),
        tokenizer=tokenizer,
        name=shape,
        digest=f"{shape}-{seed}",
        tokenizer_digest=tokenizer_digest(tokenizer),
        template_digest="",
        window=window_of(config),
        device=torch.device("cpu"),
        dtype=dtype,
        parameters=sum(weight.numel() for weight in model.parameters()),
    )
