"""Safe loading of causal language models, and their digests.

Safetensors only, never remote code, evaluation mode. Importing this file without
torch or transformers raises MissingExtra with the pip line, so callers import it inside functions.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotfish.errors import MissingExtra, UsageError
from pilotfish.precision import name_of, pick_dtype
from pilotfish.store import sha256_file

try:
    import torch
    import transformers
except ModuleNotFoundError as error:
    raise MissingExtra("running a model", "models") from error

_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "merges.txt",
    "vocab.txt", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
)  # fmt: skip
_IDENTITY = ("config.json", "*.safetensors", *_TOKENIZER_FILES)
_SAFE: dict[str, Any] = {"trust_remote_code": False}  # said aloud: left open, it would ask
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
    if is_local(name):
        check_folder(name)
    with quiet():
        tokenizer = load_tokenizer(name)
        model = _placed(_load_model(name, dtype), place, name).eval()
    model.requires_grad_(False)
    return dressed(name, model, tokenizer, place, dtype, precision)


def dressed(
    name: str, model: Any, tokenizer: Any, device: torch.device, dtype: torch.dtype, precision: str
) -> Loaded:
    """A loaded model with everything that names it."""
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        name=name,
        digest=model_digest(name, commit=getattr(model.config, "_commit_hash", None)),
        tokenizer_digest=tokenizer_digest(tokenizer),
        template_digest=_sha(getattr(tokenizer, "chat_template", None)),
        window=window_of(model.config),
        device=device,
        dtype=dtype,
        parameters=sum(weight.numel() for weight in model.parameters()),
        precision=name_of(precision, dtype),
        path=name,
    )


def load_tokenizer(name: str) -> Any:
    """Only the tokenizer of a model: no weights are read. Raises UsageError."""
    local = is_local(name)
    if local and not any((Path(name) / file).is_file() for file in _TOKENIZER_FILES):
        raise UsageError(
            f"{name} holds no tokenizer",
            hint="save one beside the weights: tokenizer.save_pretrained(FOLDER)",
        )
    with quiet():
        try:
            return transformers.AutoTokenizer.from_pretrained(name, local_files_only=local, **_SAFE)
        except Exception as error:
            raise unloadable(name, "tokenizer", error) from error


def settle_threads(parameters: int) -> None:
    """One CPU thread where every model in use is tiny (below two million parameters).

    A second thread gains such models little, and where the cores are shared it costs much: its
    share of a step is shorter than the wait for it. Bits then do not depend on the machine.
    """
    if parameters < TINY:
        torch.set_num_threads(1)


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


def model_digest(name: str, *, commit: str | None = None) -> str:
    """sha256 that names a model: of its files for a folder, of name and commit for the hub."""
    if not is_local(name):
        return _sha(["hub", name, commit])
    found = {path for pattern in _IDENTITY for path in Path(name).glob(pattern)}
    return _sha([[path.name, sha256_file(path)] for path in sorted(found)])


def identify(name: str) -> str:
    """`Loaded.digest` of a model, without loading its weights."""
    return model_digest(name, commit=getattr(config_of(name), "_commit_hash", None))


def count_parameters(name: str) -> int:
    """Weights of a model, from its config alone: nothing is loaded or downloaded but that."""
    config = config_of(name)
    with quiet(), torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    return sum(weight.numel() for weight in model.parameters())


def config_of(name: str) -> Any:
    """A model's config, nothing else of it read. UsageError where there is none."""
    local = is_local(name)
    with quiet():
        try:
            return transformers.AutoConfig.from_pretrained(name, local_files_only=local, **_SAFE)
        except Exception as error:
            raise unloadable(name, "config", error) from error


def tokenizer_digest(tokenizer: Any) -> str:
    """sha256 of how text becomes ids: vocabulary, merges, pipeline, added tokens.

    Which token plays EOS or PAD, padding state and the chat template are left out on purpose:
    two tokenizers with equal digests give equal ids for equal text.
    """
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda pair: (pair[1], pair[0]))
    backend = getattr(tokenizer, "backend_tokenizer", None)
    core: Any = type(tokenizer).__name__
    if backend is not None:
        parts = json.loads(backend.to_str())
        model = {key: value for key, value in parts["model"].items() if key != "vocab"}
        # A merge is written "a b" by old files and ["a", "b"] by new ones.
        model["merges"] = [
            merge if isinstance(merge, str) else " ".join(merge)
            for merge in model.get("merges") or []
        ]
        core = [model, parts.get("normalizer"), parts.get("pre_tokenizer")]
    return _sha([vocabulary, core])


def _load_model(name: str, dtype: torch.dtype) -> Any:
    local, config = is_local(name), config_of(name)
    caps = getattr(config.get_text_config(), "attn_logit_softcapping", None)
    try:
        model, facts = transformers.AutoModelForCausalLM.from_pretrained(
            name,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=local,
            output_loading_info=True,
            # The fused kernel leaves the soft cap on attention scores out.
            attn_implementation="eager" if caps else None,
            **_SAFE,
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


def _placed(model: Any, device: torch.device, name: str) -> Any:
    try:
        return model.to(device)
    except torch.OutOfMemoryError as error:
        raise UsageError(
            f"{name} does not fit into the memory of {device}", hint="use a smaller model, or cpu"
        ) from error


def check_folder(name: str) -> None:
    """UsageError unless a local folder holds a model as safetensors."""
    folder = Path(name)
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file, not a model folder")
    if any(folder.glob("*.safetensors")):
        return
    pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
    if pickled:
        raise UsageError(
            f"{folder} holds its weights as a pickle ({pickled[0]}), which can run any code",
            hint="convert them once: model.save_pretrained(FOLDER) writes safetensors",
        )
    raise UsageError(
        f"{folder} is no model folder: it holds no *.safetensors",
        hint="give a folder written by save_pretrained, or a hub id",
    )


def unloadable(name: str, what: str, error: Exception) -> UsageError:
    """One sentence for the many ways transformers fails to load something."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    if "trust_remote_code" in str(error):
        return UsageError(
            f"{name} brings its own code, which is never run",
            hint="use a model whose architecture transformers knows",
        )
    if is_local(name):
        return UsageError(f"cannot load the {what} in {name}: {first}")
    return UsageError(
        f"cannot load the {what} '{name}': there is no such folder, and the hub says: {first}",
        hint="check the spelling, the network and HF_HUB_OFFLINE, or give a local folder",
    )


def is_local(name: str) -> bool:
    """Whether a model is a folder here; UsageError for a path that leads nowhere."""
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    if not Path(name).exists() and looks_like_path:
        raise UsageError(f"there is no model folder {name}", hint="check the path")
    return Path(name).exists()


def _sha(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@contextmanager
def quiet() -> Iterator[None]:
    """transformers says nothing inside, unless TRANSFORMERS_VERBOSITY asks it to."""
    log = transformers.utils.logging
    hub = logging.getLogger("huggingface_hub")
    before = log.get_verbosity(), log.is_progress_bar_enabled(), hub.level
    if "TRANSFORMERS_VERBOSITY" not in os.environ:
        log.set_verbosity_error()
        hub.setLevel(logging.ERROR)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(before[0])
        hub.setLevel(before[2])
        if before[1]:
            log.enable_progress_bar()
