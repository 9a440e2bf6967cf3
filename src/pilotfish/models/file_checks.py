"""Check that a model folder holds safetensors, and explain in words what cannot be loaded."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import transformers

from pilotfish.errors import UsageError

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
