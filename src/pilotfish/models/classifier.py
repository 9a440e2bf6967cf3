"""Load sequence classifiers: an encoder or causal language model with a head of K classes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import transformers
from torch import nn

from pilotfish.errors import UsageError
from pilotfish.models.loading import Loaded, as_loaded, load_tokenizer, pick_device, to_device
from pilotfish.models.provenance import (
    check_weights,
    config_of,
    is_classifier,
    load_options,
    silence_loading,
    unloadable,
)
from pilotfish.number_formats import pick_dtype


def classes_of(name: str) -> tuple[str, ...]:
    """Return the classes of a trained classifier, in the order of its head.

    Raises:
        UsageError: The model is no classifier.
    """
    if not is_classifier(name):
        raise UsageError(f"{name} is no classifier", hint="train one, or give its folder")
    labels = config_of(name).id2label
    return tuple(str(labels[at]) for at in sorted(labels))


def load_classifier(
    name: str, classes: Sequence[str], *, device: str | None = None, precision: str = "auto"
) -> Loaded:
    """Load a classifier of `classes`, or put a new head on a model that has none.

    A new head starts at zero: all classes are equally likely, and the first loss is ln K. Other
    layers between body and head start as torch's generator draws them.

    Args:
        name: A local folder or hub id.
        classes: At least two; a trained classifier must have the same ones in the same order.
        device: As in `load`.
        precision: As in `load`.

    Raises:
        UsageError: The model cannot be used.
    """
    if len(set(classes)) != len(classes) or len(classes) < 2:
        raise UsageError(f"a classifier needs at least two distinct classes, not {list(classes)}")
    trained = is_classifier(name)
    if trained and classes_of(name) != tuple(classes):
        raise UsageError(
            f"{name} was trained for the classes {', '.join(classes_of(name))}, "
            f"and the data has {', '.join(classes)}",
            hint="give the model it was trained from, or data of its own classes",
        )
    where = pick_device(device)
    dtype = pick_dtype(precision, where)
    check_weights(name)
    with silence_loading():
        tokenizer = load_tokenizer(name)
        model = _model(name, classes, dtype, tokenizer, trained=trained)
        model = to_device(model, where, name)
    loaded = as_loaded(name, model, tokenizer, where, dtype, precision)
    return replace(loaded, window=_window(model, loaded.window))


def _window(model: Any, known: int | None) -> int | None:
    """Return the tokens a text may have: RoBERTa counts positions from after its padding id."""
    for name, module in model.base_model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and padding is not None and known is not None:
            return known - int(padding) - 1
    return known


def _model(
    name: str, classes: Sequence[str], dtype: torch.dtype, tokenizer: Any, *, trained: bool
) -> Any:
    config = config_of(name)
    config.id2label = dict(enumerate(classes))
    config.label2id = {each: at for at, each in enumerate(classes)}
    try:
        model, facts = transformers.AutoModelForSequenceClassification.from_pretrained(
            name,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            **load_options(name),
        )
    except Exception as error:
        raise unloadable(name, "classifier", error) from error
    body = f"{model.base_model_prefix}."
    lost = [  # a head, and the pooler under it, may be new; everything else must be there
        key
        for key in sorted(facts.get("missing_keys", ()))
        if trained or (key.startswith(body) and "pooler" not in key)
    ]
    if lost:
        raise UsageError(
            f"the weights of {name} lack {len(lost)} tensors its config needs, "
            f"the first is {lost[0]}",
            hint="give an encoder or a language model with all its weights",
        )
    if not trained:
        head = _last_layer(model, len(classes))
        with torch.no_grad():
            head.weight.zero_()
            if head.bias is not None:
                head.bias.zero_()
        _set_padding(model, tokenizer)
    return model


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


def _set_padding(model: Any, tokenizer: Any) -> None:
    """Set the padding id for other tools; here the mask alone says what is padding.

    Other tools read a causal model at its last token that is not padding, so the id is never one
    that the tokenizer itself ends texts with.
    """
    text = model.config.get_text_config()
    ends = tokenizer("a")["input_ids"][-1:]
    candidates = (
        text.pad_token_id,
        tokenizer.pad_token_id,
        tokenizer.eos_token_id,
        tokenizer.unk_token_id,
        tokenizer.bos_token_id,
        0,
    )
    text.pad_token_id = next(each for each in candidates if each is not None and each not in ends)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(text.pad_token_id)
