"""Identify a model and its tokenizer by digests of content, never by a path."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pilotfish.models.file_checks import is_local
from pilotfish.models.provenance import commit_of, config_of, own_code
from pilotfish.store import sha256_file

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
