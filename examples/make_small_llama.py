"""Build a small, untrained Llama that shares another model's tokenizer.

    python examples/make_small_llama.py --tokenizer weak --out strong

It stands in for a strong model where none can be downloaded: about 2.3 million parameters by
default, random weights from the seed. What is learned, is learned from the rows it is given.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM


def small_llama(words: Any, *, hidden: int, layers: int, window: int, seed: int) -> Any:
    """A Llama with tied embeddings and heads of 32, its feed-forward 8/3 of its width."""
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        max_position_embeddings=window,
        tie_word_embeddings=True,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, required=True, help="a model folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hidden", type=int, default=192, help="a multiple of 32")
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--window", type=int, default=512, help="tokens")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    words = AutoTokenizer.from_pretrained(chosen.tokenizer, local_files_only=True)
    model = small_llama(
        words,
        hidden=chosen.hidden,
        layers=chosen.layers,
        window=chosen.window,
        seed=chosen.seed,
    )
    model.save_pretrained(chosen.out)
    words.save_pretrained(chosen.out)
    print(f"{chosen.out}: {model.num_parameters():,} parameters, {len(words)} tokens")


if __name__ == "__main__":
    main()
