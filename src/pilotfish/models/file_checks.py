"""What may be loaded: safetensors only; and the words for what may not."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import transformers

from pilotfish.errors import UsageError

_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


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
            f"{name} brings its own code, which is not run unless you ask for it",
            hint="take a model whose architecture transformers knows; or read that code, and if "
            "you trust it pass --trust-remote-code (in a recipe: trust_remote_code: true)",
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


@contextmanager
def silence_loading() -> Iterator[None]:
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
