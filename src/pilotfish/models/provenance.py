"""Where a model comes from: the commit of a hub model, and the code that it brings with it."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from transformers.utils.hub import cached_file, extract_commit_hash

from pilotfish import remote_code
from pilotfish.errors import UsageError
from pilotfish.models.file_checks import check_folder, is_local, silence_loading, unloadable

_SHARD = re.compile(r"[\w][\w.\-]*\.safetensors")
_NAMING = ("config.json", "tokenizer_config.json")  # where a model says what code it brings


def load_options(name: str) -> dict[str, Any]:
    """What transformers is told whenever it loads anything of a model.

    Everything of a hub model comes from one commit. Code runs only where there is some and the
    person asked; said aloud, for left open it would ask on the terminal.
    """
    commit = commit_of(name)
    return {
        "local_files_only": is_local(name),
        "trust_remote_code": own_code(name),
        **({"revision": commit} if commit else {}),
    }


def commit_of(name: str) -> str | None:
    """The commit a hub model is at, the same as long as the process lives; None for a folder."""
    return None if is_local(name) else _commit(name)


@cache
def _commit(name: str) -> str | None:
    # asked of the file, for the config of newer transformers does not tell it
    found: str | None = extract_commit_hash(_file(name, "config.json"), None)
    return found


def own_code(name: str) -> bool:
    """Whether loading this model runs code of its own: it brings some, and the person asked.

    UsageError where that code lies in another repository: no digest or commit would pin it.
    """
    if not remote_code.allowed():
        return False
    named = list(_references(name))
    if elsewhere := [each for each in named if "--" in each]:
        raise UsageError(
            f"{name} takes its code from another repository ({elsewhere[0].partition('--')[0]}), "
            "which nothing pins",
            hint="put that code beside the model, and name it without a repository",
        )
    return bool(named)


def check_weights(name: str) -> None:
    """UsageError where the weights are anything but safetensors that lie right in the model."""
    if is_local(name):
        check_folder(name)
        _check_layers(name)
    mapped = _read(name, "model.safetensors.index.json").get("weight_map")
    for file in mapped.values() if isinstance(mapped, Mapping) else ():
        if not (isinstance(file, str) and _SHARD.fullmatch(file)):
            raise UsageError(
                f"the index of {name} names {str(file)!r} among its weights",
                hint="an index may name *.safetensors files beside it, and nothing else",
            )


def _check_layers(name: str) -> None:
    """UsageError where a config asks for more layers than there are tensors: for ten million,
    transformers would be busy for hours before it misses any.
    """
    config = _read(name, "config.json")
    inner = config.get("text_config")
    asked = [each.get("num_hidden_layers") for each in (config, inner) if isinstance(each, Mapping)]
    layers = max((each for each in asked if isinstance(each, int)), default=0)
    tensors = sum(_tensors(path) for path in Path(name).glob("*.safetensors"))
    if layers > max(tensors, 1000):  # below that it is soon found out
        raise UsageError(
            f"the config of {name} asks for {layers:,} layers, and its weights are {tensors:,} "
            "tensors",
            hint="give a model whose config belongs to its weights",
        )


def _tensors(path: Path) -> int:
    """How many tensors a safetensors file lists, by its header alone."""
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return file.read(min(length, 100_000_000)).count(b'"data_offsets"')


def origin(name: str) -> dict[str, Any]:
    """What a manifest tells beside the digest: a hub model's revision, and code that was run."""
    commit = commit_of(name)
    return {
        **({"revision": commit} if commit else {}),
        **({"remote_code": True} if own_code(name) else {}),
    }


def _references(name: str) -> Iterator[str]:
    """Every class that a model's files name as their own: `module.Class`, `repo--module.Class`."""
    for file in _NAMING:
        mapped = _read(name, file).get("auto_map")
        for value in mapped.values() if isinstance(mapped, Mapping) else ():
            both = value if isinstance(value, list) else [value]  # a slow and a fast tokenizer
            yield from (str(each) for each in both if each)


def _read(name: str, file: str) -> Mapping[str, Any]:
    path = Path(name) / file if is_local(name) else _file(name, file, commit=_commit(name))
    if path is None or not Path(path).is_file():
        return {}
    try:
        found = json.loads(Path(path).read_bytes())
    except ValueError as error:
        raise UsageError(f"{file} of {name} is not a valid JSON file: {error}") from error
    return found if isinstance(found, Mapping) else {}


def _file(name: str, file: str, *, commit: str | None = None) -> str | None:
    """A file of a hub model in the cache, fetched where it may be; None where there is none."""
    with silence_loading():
        try:
            found: str | None = cached_file(
                name, file, revision=commit, _raise_exceptions_for_missing_entries=False
            )
        except Exception as error:
            raise unloadable(name, "config", error) from error
    return found
