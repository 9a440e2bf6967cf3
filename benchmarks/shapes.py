"""Models built from configs with seeded random weights: published sizes, no download."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    Qwen2Config,
)

from pilotfish.flops import Shape
from pilotfish.models import silence_loading

SHAPES: dict[str, tuple[type[PretrainedConfig], dict[str, Any]]] = {
    "gpt2-124m": (GPT2Config, {}),
    "llama-135m": (
        LlamaConfig,
        {
            "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
            "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
            "max_position_embeddings": 8192, "tie_word_embeddings": True,
        },
    ),
    "qwen2.5-0.5b": (
        Qwen2Config,
        {
            "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864,
            "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
            "max_position_embeddings": 32768, "tie_word_embeddings": True,
        },
    ),
    "llama-4m": (
        LlamaConfig,
        {
            "vocab_size": 4096, "hidden_size": 256, "intermediate_size": 688,
            "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4,
            "max_position_embeddings": 1024, "tie_word_embeddings": True,
        },
    ),
    "llama-400k": (
        LlamaConfig,
        {
            "vocab_size": 4096, "hidden_size": 64, "intermediate_size": 192,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
            "max_position_embeddings": 2048, "tie_word_embeddings": True,
        },
    ),
}  # fmt: skip

# What makes a shape tiny while its batches stay the same: vocabulary and architecture are kept.
_TINY = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 2,
}  # fmt: skip
_TINY_GPT2 = {"n_embd": 16, "n_layer": 1, "n_head": 2}


def config(name: str, *, tiny: bool = False) -> PretrainedConfig:
    """The config of a shape, or of its tiny twin; its special ids are those of its last token."""
    kind, fields = SHAPES[name]
    small = _TINY_GPT2 if kind is GPT2Config else _TINY
    made = kind(**(fields | small if tiny else fields))
    made.bos_token_id = made.eos_token_id = made.vocab_size - 1
    return made


def build(name: str, folder: Path, tokenizer: Any, *, seed: int, tiny: bool = False) -> Shape:
    """Write an ordinary model folder with weights drawn from `seed`; says what reading costs."""
    shape = config(name, tiny=tiny)
    torch.manual_seed(seed)
    with silence_loading():
        model = AutoModelForCausalLM.from_config(shape)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    parameters = sum(weight.numel() for weight in model.parameters())
    return Shape.of(shape.to_dict(), parameters)
