"""Sequence classifiers: an encoder or a causal language model with a head of K classes on top."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import transformers
from torch import nn

from pilotfish.errors import UsageError
from pilotfish.models.configs import config_of, is_classifier
from pilotfish.models.file_checks import silence_loading, unloadable
from pilotfish.models.loading import Loaded, load_tokenizer, pick_device, to_device, with_adapter
from pilotfish.models.provenance import check_weights, load_options
from pilotfish.number_formats import pick_dtype


def classes_of(name: str) -> tuple[str, ...]:
    """The classes of a trained classifier, in the order of its head. UsageError for another."""
    if not is_classifier(name):
        raise UsageError(f"{name} is no classifier", hint="train one, or give its folder")
    labels = config_of(name).id2label
    return tuple(str(labels[at]) for at in sorted(labels))


def load_classifier(
    name: str, classes: Sequence[str], *, device: str | None = None, precision: str = "auto"
) -> Loaded:
    """Load a classifier of `classes`, or put a new head on a model that has none.

    A new head starts at zero: all classes are equally likely, and the first loss is ln K; what
    else lies between body and head starts as torch's generator draws it. A trained classifier must
    have the same classes in the same order. Devices and precision as in `load`. UsageError where
    the model cannot be used.
    """
    if len(set(classes)) != len(classes) or len(classes) < 2:
        raise UsageError(f"a classifier needs at least two distinct classes, not {list(classes)}")
    if trained := is_classifier(name):
        _check_classes(name, classes)
    place = pick_device(device)
    dtype = pick_dtype(precision, place)
    check_weights(name)
    with silence_loading():
        tokenizer = load_tokenizer(name)
        model = _model(name, classes, dtype, tokenizer, trained=trained)
        model = to_device(model, place, name).eval()
    model.requires_grad_(False)
    loaded = with_adapter(name, model, tokenizer, place, dtype, precision)
    return replace(loaded, window=_window(model, loaded.window))


def _window(model: Any, known: int | None) -> int | None:
    """Tokens a text may have: RoBERTa counts positions from behind its padding id."""
    for name, module in model.base_model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and padding is not None and known is not None:
            return known - int(padding) - 1
    return known


def _check_classes(name: str, classes: Sequence[str]) -> None:
    known = classes_of(name)
    if known != tuple(classes):
        raise UsageError(
            f"{name} was trained for the classes {', '.join(known)}, "
            f"and the data has {', '.join(classes)}",
            hint="give the model it was trained from, or data of its own classes",
        )


def _model(
    name: str, classes: Sequence[str], dtype: torch.dtype, tokenizer: Any, *, trained: bool
) -> Any:
    config = config_of(name)
    config.id2label = dict(enumerate(classes))
    config.label2id = {each: at for at, each in enumerate(classes)}
    try:
        model, facts = transformers.AutoModelForSequenceClassification.from_pretrained(
            name, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True,
            **load_options(name),
        )  # fmt: skip
    except Exception as error:
        raise unloadable(name, "classifier", error) from error
    _check_body(name, model, sorted(facts.get("missing_keys", ())), trained=trained)
    if not trained:
        _zero(_last_layer(model, len(classes)))
        _name_padding(model, tokenizer)
    return model


def _check_body(name: str, model: Any, missing: Sequence[str], *, trained: bool) -> None:
    """UsageError where more than a head (and the pooler under it) has to be made up."""
    body = f"{model.base_model_prefix}."
    lost = [key for key in missing if trained or (key.startswith(body) and "pooler" not in key)]
    if lost:
        raise UsageError(
            f"the weights of {name} lack {len(lost)} tensors its config asks for, "
            f"the first is {lost[0]}",
            hint="give an encoder or a language model with all its weights",
        )


def _last_layer(model: Any, classes: int) -> nn.Linear:
    inside = {id(each) for each in model.base_model.modules()}
    heads = [
        each
        for each in model.modules()
        if isinstance(each, nn.Linear) and each.out_features == classes and id(each) not in inside
    ]
    if not heads:
        raise UsageError(f"{type(model).__name__} has no head of {classes} classes")
    return heads[-1]


@torch.no_grad()
def _zero(head: nn.Linear) -> None:
    head.weight.zero_()
    if head.bias is not None:
        head.bias.zero_()


def _name_padding(model: Any, tokenizer: Any) -> None:
    """Tell other tools which id pads, as theirs need it; here the mask alone says what is padding.

    Theirs read a causal model where the last token stands that does not pad: never one that the
    tokenizer itself ends texts with.
    """
    text = model.config.get_text_config()
    ends = tokenizer("a")["input_ids"][-1:]
    known = (text.pad_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id)
    others = (tokenizer.unk_token_id, tokenizer.bos_token_id, 0)
    text.pad_token_id = next(
        each for each in (*known, *others) if each is not None and each not in ends
    )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(text.pad_token_id)
