"""Where a model comes from: files, digests, commit, and code that it brings along."""

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import transformers
from transformers.utils.hub import cached_file, extract_commit_hash

from pilotfish import remote_code
from pilotfish.errors import UsageError
from pilotfish.store import sha256_file

_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def check_folder(name: str) -> None:
    """Check that a local folder holds a model as safetensors.

    Raises:
        UsageError: It does not; weights as a pickle are named.
    """
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


def unloadable(name: str, part: str, error: Exception) -> UsageError:
    """Return one sentence for an error of transformers while it loaded a part ("tokenizer")."""
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    if "trust_remote_code" in str(error):
        return UsageError(
            f"{name} brings its own code, which is not run unless you ask for it",
            hint="take a model whose architecture transformers knows; or read that code, and if "
            "you trust it pass --trust-remote-code (in a recipe: trust_remote_code: true)",
        )
    if is_local(name):
        return UsageError(f"cannot load the {part} in {name}: {first_line}")
    return UsageError(
        f"cannot load the {part} '{name}': there is no such folder, and the hub says: {first_line}",
        hint="check the spelling, the network and HF_HUB_OFFLINE, or give a local folder",
    )


def is_local(name: str) -> bool:
    """Return whether a model is a folder on this machine.

    Raises:
        UsageError: The name is a path, and nothing exists there.
    """
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    if not Path(name).exists() and looks_like_path:
        raise UsageError(f"there is no model folder {name}", hint="check the path")
    return Path(name).exists()


@contextmanager
def silence_loading() -> Iterator[None]:
    """Silence transformers inside the context, unless TRANSFORMERS_VERBOSITY is set."""
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


_SHARD = re.compile(r"[\w][\w.\-]*\.safetensors")
_CODE_FILES = ("config.json", "tokenizer_config.json")  # where a model names its own code
_CLASSIFIER = "ForSequenceClassification"


def load_options(name: str) -> dict[str, Any]:
    """Return the options for every call that loads a part of a model with transformers.

    All parts of a hub model come from one commit. `trust_remote_code` is always set, because
    transformers would otherwise prompt on the terminal.
    """
    commit = commit_of(name)
    return {
        "local_files_only": is_local(name),
        "trust_remote_code": own_code(name),
        **({"revision": commit} if commit else {}),
    }


def config_of(name: str) -> Any:
    """Load a model's config and nothing else.

    Raises:
        UsageError: There is none, or it cannot be read.
    """
    options = load_options(name)
    with silence_loading():
        try:
            return transformers.AutoConfig.from_pretrained(name, **options)
        except Exception as error:
            raise unloadable(name, "config", error) from error


def is_classifier(name: str) -> bool:
    """Return whether a model folder or hub id holds a trained classifier, by its config alone."""
    architectures = getattr(config_of(name), "architectures", None) or []
    return any(str(each).endswith(_CLASSIFIER) for each in architectures)


def origin(name: str) -> dict[str, Any]:
    """Return what manifests record next to the digest: a hub revision, and code that was run."""
    commit = commit_of(name)
    return {
        **({"revision": commit} if commit else {}),
        **({"remote_code": True} if own_code(name) else {}),
    }


def commit_of(name: str) -> str | None:
    """Return a hub model's commit, which stays the same within a process; None for a folder."""
    return None if is_local(name) else _commit(name)


@cache
def _commit(name: str) -> str | None:
    # from the path of the cached file, because configs of newer transformers do not hold it
    found: str | None = extract_commit_hash(_hub_file(name, "config.json"), None)
    return found


def own_code(name: str) -> bool:
    """Return whether loading this model runs code of its own: it brings some, and it is allowed.

    Raises:
        UsageError: That code is in another repository, where no digest or commit pins it.
    """
    if not remote_code.allowed():
        return False
    classes = list(_own_classes(name))
    if elsewhere := [each for each in classes if "--" in each]:
        raise UsageError(
            f"{name} takes its code from another repository ({elsewhere[0].partition('--')[0]}), "
            "which nothing pins",
            hint="copy that code into the model's folder, and name it without a repository",
        )
    return bool(classes)


def _own_classes(name: str) -> Iterator[str]:
    """Yield the classes a model names as its own: `module.Class`, `repo--module.Class`."""
    for file in _CODE_FILES:
        mapped = _read_json(name, file).get("auto_map")
        for value in mapped.values() if isinstance(mapped, Mapping) else ():
            both = value if isinstance(value, list) else [value]  # a slow and a fast tokenizer
            yield from (str(each) for each in both if each)


def check_weights(name: str) -> None:
    """Check that the weights are safetensors files of the model itself.

    Raises:
        UsageError: They are not, or the config has far more layers than there are tensors.
    """
    if is_local(name):
        check_folder(name)
        _check_layers(name)
    mapped = _read_json(name, "model.safetensors.index.json").get("weight_map")
    for file in mapped.values() if isinstance(mapped, Mapping) else ():
        if not (isinstance(file, str) and _SHARD.fullmatch(file)):
            raise UsageError(
                f"the index of {name} names {str(file)!r} among its weights",
                hint="an index may name *.safetensors files of its own folder, and nothing else",
            )


def _check_layers(name: str) -> None:
    """Refuse more layers than tensors: transformers would build ten million layers for hours."""
    config = _read_json(name, "config.json")
    both = (config, config.get("text_config"))
    counts = [each.get("num_hidden_layers") for each in both if isinstance(each, Mapping)]
    layers = max((each for each in counts if isinstance(each, int)), default=0)
    tensors = 0
    for path in filter(Path.is_file, Path(name).glob("*.safetensors")):
        with path.open("rb") as file:  # the header lists the tensors
            length = int.from_bytes(file.read(8), "little")
            tensors += file.read(min(length, 100_000_000)).count(b'"data_offsets"')
    if layers > max(tensors, 1000):  # below that, loading soon reports what is missing
        raise UsageError(
            f"the config of {name} asks for {layers:,} layers, and its weights are {tensors:,} "
            "tensors",
            hint="give a model whose config belongs to its weights",
        )


def _read_json(name: str, file: str) -> Mapping[str, Any]:
    """Return a JSON object of the model, {} where there is no such file."""
    path = Path(name) / file if is_local(name) else _hub_file(name, file, commit=_commit(name))
    if path is None or not Path(path).is_file():
        return {}
    try:
        found = json.loads(Path(path).read_bytes())
    except ValueError as error:
        raise UsageError(f"{file} of {name} is not a valid JSON file: {error}") from error
    return found if isinstance(found, Mapping) else {}


def _hub_file(name: str, file: str, *, commit: str | None = None) -> str | None:
    """Return a hub model's file in the cache, downloaded if allowed; None where there is none."""
    with silence_loading():
        try:
            found: str | None = cached_file(
                name, file, revision=commit, _raise_exceptions_for_missing_entries=False
            )
        except Exception as error:
            raise unloadable(name, "config", error) from error
    return found


TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
_IDENTITY = ("config.json", "*.safetensors", *TOKENIZER_FILES)


def model_digest(name: str) -> str:
    """Return the sha256 of a model: of its files for a folder, of name and commit for the hub.

    A model that runs code of its own differs from the same files without that code.
    """
    own = own_code(name)
    if not is_local(name):
        return sha(["hub", name, commit_of(name), *["own code"] * own])
    patterns = (*_IDENTITY, *["*.py"] * own)
    found = {path for pattern in patterns for path in Path(name).glob(pattern)}
    return sha([[path.name, sha256_file(path)] for path in sorted(found)])


def identify(name: str) -> str:
    """Return `Loaded.digest` of a model without loading its weights.

    Raises:
        UsageError: There is no such model.
    """
    config_of(name)
    return model_digest(name)


def tokenizer_digest(tokenizer: Any) -> str:
    """Return the sha256 of how text becomes ids: vocabulary, merges, pipeline, added tokens.

    Which token is EOS or PAD, the padding state and the chat template are left out on purpose: two
    tokenizers with equal digests give equal ids for equal text.
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
    return sha([vocabulary, core])


def sha(value: Any) -> str:
    """Return the sha256 of a value's JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
