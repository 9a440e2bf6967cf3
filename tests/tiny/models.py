"""Folders holding a tiny causal LM and a byte tokenizer, as `save_pretrained` writes them."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def byte_tokenizer(*, bos: bool = False, chat: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer: 256 byte tokens, then <|end|> (EOS), optionally <|bos|>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {piece: index for index, piece in enumerate(alphabet)}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    specials = {"eos_token": "<|end|>"} | ({"bos_token": "<|bos|>"} if bos else {})
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **specials)
    if bos:
        from tokenizers.processors import TemplateProcessing

        bos_id = tokenizer.convert_tokens_to_ids("<|bos|>")
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<|bos|> $A", special_tokens=[("<|bos|>", bos_id)]
        )
    if chat:
        tokenizer.add_special_tokens(
            {"additional_special_tokens": ["<|user|>", "<|assistant|>", "<|system|>"]}
        )
        tokenizer.chat_template = CHAT
    return tokenizer


def tiny_llama(
    folder: Path,
    *,
    seed: int = 0,
    hidden: int = 32,
    layers: int = 2,
    bos: bool = False,
    chat: bool = False,
    window: int = 256,
) -> Path:
    """Save a random Llama-shaped model with its tokenizer; returns the folder."""
    tokenizer = byte_tokenizer(bos=bos, chat=chat)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=window,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_gpt2(folder: Path, *, seed: int = 0, hidden: int = 32, layers: int = 2) -> Path:
    """Save a random GPT-2-shaped model with its byte tokenizer; returns the folder."""
    tokenizer = byte_tokenizer()
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=hidden,
        n_layer=layers,
        n_head=4,
        n_positions=256,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
