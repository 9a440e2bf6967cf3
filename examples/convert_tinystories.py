"""Convert a llama2.c checkpoint (TinyStories 260K) into an ordinary model folder.

    python examples/convert_tinystories.py checkpoint_v1.bin tokenizer.bin --out weak

Reads both layouts, the legacy one (28-byte header) and version 1 (256-byte header). The folder
holds a Llama with tied embeddings as safetensors, and a fast tokenizer that merges pieces by score
as sentencepiece does, falls back to bytes, and drops the first space after BOS.
"""

import argparse
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, normalizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

MAGIC = 0x616B3432  # "ak42", first bytes of a version 1 file
UNKNOWN, BOS, EOS = "<unk>", "<s>", "</s>"  # ids 0, 1, 2
SPACE = "\u2581"  # how sentencepiece writes a space inside a piece

Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Header:
    """The seven numbers both layouts begin with."""

    dim: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    window: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every tensor; per-layer ones have the layer first."""
        kv = self.dim // self.heads * self.kv_heads
        layers, dim, hidden = self.layers, self.dim, self.hidden
        return {
            "tok_emb": (self.vocab, dim),
            "rms_att": (layers, dim),
            "wq": (layers, dim, dim),
            "wk": (layers, kv, dim),
            "wv": (layers, kv, dim),
            "wo": (layers, dim, dim),
            "rms_ffn": (layers, dim),
            "w1": (layers, hidden, dim),
            "w2": (layers, dim, hidden),
            "w3": (layers, hidden, dim),
            "rms_final": (dim,),
        }


LEGACY = ["tok_emb", "rms_att", "wq", "wk", "wv", "wo", "rms_ffn", "w1", "w2", "w3", "rms_final"]
VERSION_1 = ["rms_att", "rms_ffn", "rms_final", "tok_emb", "wq", "wk", "wv", "wo", "w1", "w2", "w3"]


def read_checkpoint(path: Path) -> tuple[Header, Weights]:
    """The header and the tensors of either layout, as they lie in the file."""
    blob = path.read_bytes()
    magic, version = struct.unpack_from("<Ii", blob)
    if magic == MAGIC and version != 1:
        raise SystemExit(f"{path} is a version {version} checkpoint; this script reads 0 and 1")
    start, offset, order = (8, 256, VERSION_1) if magic == MAGIC else (0, 28, LEGACY)
    header = Header(*struct.unpack_from("<7i", blob, start))
    weights: Weights = {}
    for name in order:
        shape = header.shapes()[name]
        count = int(np.prod(shape))
        weights[name] = np.frombuffer(blob, "<f4", count, offset).reshape(shape)
        offset += 4 * count
    return header, weights


def half_split(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Reorder [heads * h, dim] rows from interleaved rotary pairs to transformers' two halves."""
    out, dim = rows.shape
    pairs = rows.reshape(heads, out // heads // 2, 2, dim)
    return pairs.transpose(0, 2, 1, 3).reshape(out, dim)


def state_dict(header: Header, weights: Weights) -> dict[str, torch.Tensor]:
    """The tensors under transformers' names; the LM head is the embedding."""
    named: Weights = {
        "model.embed_tokens.weight": weights["tok_emb"],
        "lm_head.weight": weights["tok_emb"],
        "model.norm.weight": weights["rms_final"],
    }
    for layer in range(header.layers):
        own = {name: tensor[layer] for name, tensor in weights.items() if tensor.ndim > 1}
        prefix = f"model.layers.{layer}"
        named |= {
            f"{prefix}.input_layernorm.weight": own["rms_att"],
            f"{prefix}.post_attention_layernorm.weight": own["rms_ffn"],
            f"{prefix}.self_attn.q_proj.weight": half_split(own["wq"], header.heads),
            f"{prefix}.self_attn.k_proj.weight": half_split(own["wk"], header.kv_heads),
            f"{prefix}.self_attn.v_proj.weight": own["wv"],
            f"{prefix}.self_attn.o_proj.weight": own["wo"],
            f"{prefix}.mlp.gate_proj.weight": own["w1"],
            f"{prefix}.mlp.down_proj.weight": own["w2"],
            f"{prefix}.mlp.up_proj.weight": own["w3"],
        }
    return {name: torch.tensor(value) for name, value in named.items()}


def build_model(header: Header, weights: Weights) -> Any:
    """The Llama, in fp32."""
    config = LlamaConfig(
        vocab_size=header.vocab,
        hidden_size=header.dim,
        intermediate_size=header.hidden,
        num_hidden_layers=header.layers,
        num_attention_heads=header.heads,
        num_key_value_heads=header.kv_heads,
        max_position_embeddings=header.window,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    model.load_state_dict(state_dict(header, weights))
    return model.eval()


def read_pieces(path: Path, count: int) -> list[tuple[str, float]]:
    """(piece, score) by id."""
    blob, offset, pieces = path.read_bytes(), 4, []
    for _ in range(count):
        score, size = struct.unpack_from("<fi", blob, offset)
        offset += 8
        text = blob[offset : offset + size].decode("utf-8")
        pieces.append((text.replace(" ", SPACE), score))
        offset += size
    # The first three are written with decorations of their own in some files.
    return [(name, 0.0) for name in (UNKNOWN, BOS, EOS)] + pieces[3:]


def merges_by_score(pieces: list[tuple[str, float]]) -> list[tuple[str, str]]:
    """Every way two pieces join into a third, best-scored result first."""
    known = {piece for piece, _ in pieces}
    ranked = sorted(pieces[3:], key=lambda entry: -entry[1])
    return [
        (piece[:cut], piece[cut:])
        for piece, _ in ranked
        if not piece.startswith("<0x")
        for cut in range(1, len(piece))
        if piece[:cut] in known and piece[cut:] in known
    ]


def build_tokenizer(pieces: list[tuple[str, float]], window: int) -> Any:
    """A fast tokenizer: a space before the text, BOS before that, bytes for unknown characters."""
    vocab = {piece: index for index, (piece, _) in enumerate(pieces)}
    core = Tokenizer(
        models.BPE(
            vocab=vocab,
            merges=merges_by_score(pieces),
            unk_token=UNKNOWN,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    )
    core.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    core.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, vocab[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token=UNKNOWN,
        bos_token=BOS,
        eos_token=EOS,
        model_max_length=window,
        clean_up_tokenization_spaces=False,
    )


def convert(checkpoint: Path, tokenizer: Path, out: Path) -> Header:
    """Write the model folder; returns what the checkpoint's header says."""
    header, weights = read_checkpoint(checkpoint)
    build_model(header, weights).save_pretrained(out)
    build_tokenizer(read_pieces(tokenizer, header.vocab), header.window).save_pretrained(out)
    return header


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    header = convert(chosen.checkpoint, chosen.tokenizer, chosen.out)
    print(f"{chosen.out}: {asdict(header)}")


if __name__ == "__main__":
    main()
