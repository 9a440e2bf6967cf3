"""Folders holding tiny encoders with a byte tokenizer that frames a text as BERT's does."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

SPECIALS = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
_SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_SPREAD = 0.2  # of random weights: at the usual 0.02 such small models tell no two texts apart
_DROP = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def framed_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes between [CLS] and [SEP]; id 0 pads."""
    pieces = [*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = Tokenizer(models.BPE(vocab={piece: at for at, piece in enumerate(pieces)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        unk_token="[UNK]",
    )  # fmt: skip


def tiny_encoder(
    folder: Path, kind: str = "bert", *, seed: int = 0, window: int = 64, dropout: float = 0.0
) -> Path:
    """Save a random encoder (bert, bert_mlm, distilbert, electra, roberta); returns the folder."""
    tokenizer = framed_tokenizer()
    torch.manual_seed(seed)
    drop = dict.fromkeys(_DROP, dropout)
    wide: dict[str, Any] = {
        **_SHAPE, **drop, "intermediate_size": 64, "vocab_size": len(tokenizer),
        "max_position_embeddings": window, "pad_token_id": 0,
        "initializer_range": _SPREAD,
    }  # fmt: skip
    made = {
        "bert": lambda: BertModel(BertConfig(**wide)),
        "bert_mlm": lambda: BertForMaskedLM(BertConfig(**wide)),
        "electra": lambda: ElectraModel(ElectraConfig(**wide, embedding_size=32)),
        "roberta": lambda: RobertaModel(RobertaConfig(**wide)),
        "distilbert": lambda: DistilBertModel(
            DistilBertConfig(
                dim=32, hidden_dim=64, n_layers=2, n_heads=4, vocab_size=len(tokenizer),
                max_position_embeddings=window, pad_token_id=0, dropout=dropout,
                attention_dropout=dropout, seq_classif_dropout=dropout,
                initializer_range=_SPREAD,
            )
        ),
    }  # fmt: skip
    made[kind]().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_classifier(folder: Path, base: Path, classes: tuple[str, ...], *, seed: int = 0) -> Path:
    """Save a classifier on top of `base` whose head is random, so that it says something."""
    from pilotfish.models import load_classifier

    loaded = load_classifier(str(base), classes, device="cpu", precision="fp32")
    torch.manual_seed(seed)
    for name, weight in loaded.model.named_parameters():
        if not name.startswith(f"{loaded.model.base_model_prefix}."):
            weight.data.normal_(std=0.3)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder
