"""Load causal language models and their tokenizers; choose devices, threads and windows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from pilotfish.errors import UsageError
from pilotfish.models.provenance import (
    TOKENIZER_FILES,
    check_weights,
    commit_of,
    config_of,
    is_classifier,
    is_local,
    load_options,
    model_digest,
    origin,
    own_code,
    sha,
    silence_loading,
    tokenizer_digest,
    unloadable,
)
from pilotfish.number_formats import name_of, pick_dtype

TINY = 2_000_000  # parameters
# Names under which configs keep the number of positions a model distinguishes.
_WINDOW = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model in evaluation mode, its tokenizer, and the identity of both."""

    model: Any  # without gradients
    tokenizer: Any
    name: str  # its name in a run
    # sha256 over config, weights and tokenizer files of a folder, over name and commit of the hub
    digest: str
    # equal for two models iff they cut text into the same ids, so iff token-level distillation
    # between them is legal
    tokenizer_digest: str
    template_digest: str  # sha256 of the chat template
    window: int | None  # positions the model distinguishes, None where unbounded
    device: torch.device
    dtype: torch.dtype  # of the weights
    parameters: int
    precision: str = "fp32"  # how it computes: fp32, bf16, fp16 or int8 (weights loaded as fp32)
    path: str = ""  # the folder or hub id it was loaded from
    # facts that manifests record next to the digest
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def attention(self) -> str:
        """The attention backend in use ("sdpa", "eager", ...)."""
        return str(getattr(self.model.config, "_attn_implementation", None) or "eager")


def load(name: str, *, device: str | None = None, precision: str = "auto") -> Loaded:
    """Load a causal language model and its tokenizer.

    Args:
        name: A local folder or hub id.
        device: A torch device; None picks cuda, else mps, else cpu.
        precision: "auto" (bf16 on GPUs that have it, fp32 elsewhere), "fp32", "bf16" or "int8"
            (loads fp32, which `engine.int8` quantizes).

    Raises:
        UsageError: The model, its weights or its tokenizer cannot be used, or the machine cannot
            compute in this precision.
    """
    where = pick_device(device)
    dtype = pick_dtype(precision, where)
    check_weights(name)
    if is_classifier(name):  # one whose embeddings are tied would load, and answer nonsense
        raise UsageError(
            f"{name} is a classifier, and a language model is needed here",
            hint="give the model it was trained from",
        )
    with silence_loading():
        tokenizer = load_tokenizer(name)
        model = to_device(_load_model(name, dtype), where, name)
    return as_loaded(name, model, tokenizer, where, dtype, precision)


def as_loaded(
    name: str, model: Any, tokenizer: Any, device: torch.device, dtype: torch.dtype, precision: str
) -> Loaded:
    """Switch a model to evaluation without gradients, and identify it.

    Args:
        name: The folder or hub id it was loaded from.
        model: The transformers model.
        tokenizer: Its tokenizer.
        device: Where the weights are.
        dtype: Their number format.
        precision: The precision as requested.
    """
    model.eval().requires_grad_(False)
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
    """Load the tokenizer of a model; no weights are read.

    Raises:
        UsageError: There is none, or it cannot be loaded.
    """
    if is_local(name) and not any((Path(name) / file).is_file() for file in TOKENIZER_FILES):
        raise UsageError(
            f"{name} holds no tokenizer",
            hint="save one with the weights: tokenizer.save_pretrained(FOLDER)",
        )
    options = load_options(name)
    with silence_loading():
        try:
            return transformers.AutoTokenizer.from_pretrained(name, **options)
        except Exception as error:
            raise unloadable(name, "tokenizer", error) from error


_threads_before: list[int] = []  # threads before a tiny model was loaded, one number or none


def set_threads(parameters: int) -> None:
    """Use one CPU thread for a tiny model (below two million parameters).

    A second thread gains such models little, and on shared cores it costs much: its share of a
    step is shorter than the wait for it. The bits then do not depend on the machine. A larger
    model gets back the threads that were there before the tiny one.
    """
    now = torch.get_num_threads()
    if parameters < TINY and now > 1:
        _threads_before[:] = [now]
        torch.set_num_threads(1)
    elif parameters >= TINY and now == 1 and _threads_before:
        torch.set_num_threads(_threads_before.pop())


def pick_device(device: str | None = None) -> torch.device:
    """Return the named device, or the best one available.

    Raises:
        UsageError: There is no such device.
    """
    if device is None:
        mps = "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device("cuda" if torch.cuda.is_available() else mps)
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"no device is called '{device}'", hint="try cpu, cuda or mps") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("device 'cuda' was requested, but torch sees no GPU", hint="use cpu")
    return found


def window_of(config: Any) -> int | None:
    """Return the positions a model distinguishes, None where nothing bounds them."""
    for name in _WINDOW:
        value = getattr(config.get_text_config(), name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def count_parameters(name: str) -> int:
    """Count the weights of a model from its config alone; no weights are loaded or downloaded.

    Raises:
        UsageError: The config cannot be read, or names no model of its own code.
    """
    config, auto = config_of(name), transformers.AutoModelForCausalLM
    if type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:  # many an encoder
        auto = transformers.AutoModel
    with silence_loading(), torch.device("meta"):
        if own_code(name):
            classes = getattr(config, "auto_map", {})
            reference = classes.get("AutoModelForCausalLM") or classes.get("AutoModel")
            if reference is None:
                raise UsageError(f"the config of {name} names no model of its own code")
            own = get_class_from_dynamic_module(reference, name, revision=commit_of(name))
            model = own._from_config(config)
        else:
            model = auto.from_config(config)
    return sum(weight.numel() for weight in model.parameters())


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
            # The fused kernel ignores the soft cap on attention scores.
            attn_implementation="eager" if caps else None,
            **load_options(name),
        )
    except Exception as error:
        raise unloadable(name, "model", error) from error
    if missing := sorted(facts.get("missing_keys", ())):
        raise UsageError(
            f"the weights of {name} lack {len(missing)} tensors its config needs, "
            f"the first is {missing[0]}",
            hint="a causal language model with all its weights is needed",
        )
    return model


def to_device(model: Any, device: torch.device, name: str) -> Any:
    """Move a model to a device.

    Raises:
        UsageError: It does not fit; says `name`.
    """
    try:
        return model.to(device)
    except torch.OutOfMemoryError as error:
        raise UsageError(
            f"{name} does not fit into the memory of {device}", hint="use a smaller model, or cpu"
        ) from error
