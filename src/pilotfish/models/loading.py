"""Causal language models and their tokenizers, in evaluation mode; devices, threads, windows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from pilotfish.errors import UsageError
from pilotfish.models.configs import config_of, is_classifier
from pilotfish.models.digests import TOKENIZER_FILES, model_digest, sha, tokenizer_digest
from pilotfish.models.file_checks import is_local, silence_loading, unloadable
from pilotfish.models.provenance import check_weights, commit_of, load_options, origin, own_code
from pilotfish.number_formats import name_of, pick_dtype

TINY = 2_000_000  # parameters
# Names under which configs keep the number of positions a model can tell apart.
_WINDOW = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model ready to measure with, its tokenizer, and what names both.

    digest: sha256 over config, weights and tokenizer files of a folder; over name and commit of a
    hub model. tokenizer_digest: equal for two models iff they cut text into the same ids, so iff
    token-level distillation between them is legal. window: positions, None where unbounded.
    """

    model: Any
    tokenizer: Any
    name: str
    digest: str
    tokenizer_digest: str
    template_digest: str
    window: int | None
    device: torch.device
    dtype: torch.dtype
    parameters: int
    precision: str = "fp32"  # how it computes: fp32, bf16, fp16 or int8 (weights loaded as fp32)
    path: str = ""  # the folder or hub id it was loaded from, whatever it is called in a run
    origin: Mapping[str, Any] = field(default_factory=dict)  # what manifests say beside the digest

    @property
    def attention(self) -> str:
        """The attention backend in use ("sdpa", "eager", ...)."""
        return str(getattr(self.model.config, "_attn_implementation", None) or "eager")


def load(name: str, *, device: str | None = None, precision: str = "auto") -> Loaded:
    """Load a causal LM and its tokenizer from a local folder or by hub id.

    `device` defaults to cuda, else mps, else cpu; precision "auto" is bf16 on GPUs that have it and
    fp32 elsewhere; "int8" loads fp32, which `engine.int8` narrows. Raises UsageError when the
    model, its weights or its tokenizer cannot be used, and where the machine cannot do int8.
    """
    place = pick_device(device)
    dtype = pick_dtype(precision, place)
    check_weights(name)
    if is_classifier(name):  # one whose embeddings are tied would load, and say nonsense
        raise UsageError(
            f"{name} is a classifier, and a language model is needed here",
            hint="give the model it was trained from",
        )
    with silence_loading():
        tokenizer = load_tokenizer(name)
        model = to_device(_load_model(name, dtype), place, name).eval()
    model.requires_grad_(False)
    return with_adapter(name, model, tokenizer, place, dtype, precision)


def with_adapter(
    name: str, model: Any, tokenizer: Any, device: torch.device, dtype: torch.dtype, precision: str
) -> Loaded:
    """A loaded model with everything that names it."""
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        name=name,
        digest=model_digest(name),
        tokenizer_digest=tokenizer_digest(tokenizer),
        template_digest=sha(getattr(tokenizer, "chat_template", None)),
        window=window_of(model.config),
        device=device,
        dtype=dtype,
        parameters=sum(weight.numel() for weight in model.parameters()),
        precision=name_of(precision, dtype),
        path=name,
        origin=origin(name),
    )


def load_tokenizer(name: str) -> Any:
    """Only the tokenizer of a model: no weights are read. Raises UsageError."""
    if is_local(name) and not any((Path(name) / file).is_file() for file in TOKENIZER_FILES):
        raise UsageError(
            f"{name} holds no tokenizer",
            hint="save one beside the weights: tokenizer.save_pretrained(FOLDER)",
        )
    told = load_options(name)
    with silence_loading():
        try:
            return transformers.AutoTokenizer.from_pretrained(name, **told)
        except Exception as error:
            raise unloadable(name, "tokenizer", error) from error


_denied: list[int] = []  # the threads before a tiny model came, one number or none


def set_threads(parameters: int) -> None:
    """One CPU thread where every model in use is tiny (below two million parameters).

    A second thread gains such models little, and where the cores are shared it costs much: its
    share of a step is shorter than the wait for it. Bits then do not depend on the machine. A
    larger model gets the threads back that a tiny one before it was denied.
    """
    now = torch.get_num_threads()
    if parameters < TINY and now > 1:
        _denied[:] = [now]
        torch.set_num_threads(1)
    elif parameters >= TINY and now == 1 and _denied:
        torch.set_num_threads(_denied.pop())


def pick_device(device: str | None = None) -> torch.device:
    """The device asked for, else the best one there is."""
    if device is None:
        mps = "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device("cuda" if torch.cuda.is_available() else mps)
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"no device is called '{device}'", hint="try cpu, cuda or mps") from error
    if place.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("device 'cuda' was asked for, but torch sees no GPU", hint="use cpu")
    return place


def window_of(config: Any) -> int | None:
    """Positions the model can tell apart, None where nothing bounds them."""
    for name in _WINDOW:
        value = getattr(config.get_text_config(), name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def count_parameters(name: str) -> int:
    """Weights of a model, from its config alone: nothing is loaded or downloaded but that."""
    config, auto = config_of(name), transformers.AutoModelForCausalLM
    if type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:  # many an encoder
        auto = transformers.AutoModel
    with silence_loading(), torch.device("meta"):
        model = _of_own_code(name, config) if own_code(name) else auto.from_config(config)
    return sum(weight.numel() for weight in model.parameters())


def _of_own_code(name: str, config: Any) -> Any:
    named = getattr(config, "auto_map", {})
    reference = named.get("AutoModelForCausalLM") or named.get("AutoModel")
    if reference is None:
        raise UsageError(f"the config of {name} names no model of its own code")
    made = get_class_from_dynamic_module(reference, name, revision=commit_of(name))
    return made._from_config(config)


def _load_model(name: str, dtype: torch.dtype) -> Any:
    config = config_of(name)
    caps = getattr(config.get_text_config(), "attn_logit_softcapping", None)
    try:
        model, facts = transformers.AutoModelForCausalLM.from_pretrained(
            name,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            # The fused kernel leaves the soft cap on attention scores out.
            attn_implementation="eager" if caps else None,
            **load_options(name),
        )
    except Exception as error:
        raise unloadable(name, "model", error) from error
    if missing := sorted(facts.get("missing_keys", ())):
        raise UsageError(
            f"the weights of {name} lack {len(missing)} tensors its config asks for, "
            f"the first is {missing[0]}",
            hint="a causal language model with all its weights is needed",
        )
    return model


def to_device(model: Any, device: torch.device, name: str) -> Any:
    """The model on that device; UsageError where it does not fit."""
    try:
        return model.to(device)
    except torch.OutOfMemoryError as error:
        raise UsageError(
            f"{name} does not fit into the memory of {device}", hint="use a smaller model, or cpu"
        ) from error
