"""Where a model comes from: its config, the commit of a hub model, and code it brings along."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import transformers
from transformers.utils.hub import cached_file, extract_commit_hash

from pilotfish import remote_code
from pilotfish.errors import UsageError
from pilotfish.models.file_checks import check_folder, is_local, silence_loading, unloadable

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
