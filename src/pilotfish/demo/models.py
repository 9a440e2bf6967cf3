"""The weak and the strong model of the demo: Llama shapes and a character tokenizer.

The shipped folders below `weights/` are ordinary model folders, loaded like any other.
"""

import string
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pilotfish.errors import unknown_name

WINDOW = 64  # tokens; the longest row of a world has 1 + 24 + 2 + 12 + 1
EOS = "<|end|>"
# With a start token the first character of a response can be scored too; without one, every
# one-character answer would be unscorable.
BOS = "<|start|>"
UNKNOWN = "<|unknown|>"

SHAPES: dict[str, dict[str, int]] = {
    "weak": {
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    },
    "strong": {
        "hidden_size": 112,
        "intermediate_size": 224,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    },
}


def shipped(name: str) -> Path:
    """Return the folder of the shipped base model `weak` or `strong`."""
    if name not in SHAPES:
        raise unknown_name("model of the tiny world", name, SHAPES)
    return Path(__file__).parent / "weights" / name


def tokenizer() -> Any:
    """Make the tokenizer: a token per printable ASCII character; id 0 is EOS, 1 BOS, 2 unknown."""
    characters = [EOS, BOS, UNKNOWN, "\n", *string.printable[:95]]
    vocab = {piece: index for index, piece in enumerate(characters)}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token=UNKNOWN))
    core.decoder = decoders.Fuse()
    core.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, vocab[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        model_max_length=WINDOW,
        clean_up_tokenization_spaces=False,
    )


def base_model(name: str, *, seed: int) -> Any:
    """Initialise a model of one of the SHAPES, in fp32."""
    if name not in SHAPES:
        raise unknown_name("model of the tiny world", name, SHAPES)
    characters = tokenizer()
    config = LlamaConfig(
        vocab_size=len(characters),
        max_position_embeddings=WINDOW,
        tie_word_embeddings=True,
        bos_token_id=characters.bos_token_id,
        eos_token_id=characters.eos_token_id,
        pad_token_id=None,
        **SHAPES[name],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)
