"""How rows that are trained elsewhere are to be trained: as the run would have done it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pilotfish.config import TrainConfig
from pilotfish.data_order import plan_steps, warmup_length
from pilotfish.errors import PilotfishError
from pilotfish.experiments.train import train_config
from pilotfish.export.base import STRONG, TrainSettings
from pilotfish.progress import Progress
from pilotfish.redaction import redact_values
from pilotfish.store import Run

LORA_RATE = 2e-4  # where nobody could look at the model: the rule of thumb for LoRA


def train_settings_of(
    run: Run, progress: Progress, *, strong: str | None = None, overrides: Sequence[str] = ()
) -> TrainSettings:
    """The recipe's settings, with what the run's own training found where there was one.

    strong: another model than the run's. overrides: `train.NAME=VALUE`, laid on top.
    """
    config = train_config(run, overrides)
    known = run.section("config").get("strong") or _trained(run).get("strong")
    trained = {} if strong or overrides else _trained(run)
    strong = strong or str(known or STRONG)
    if Path(strong).is_dir():
        strong = str(Path(strong).resolve())  # the config is used in another folder
    steps = int(trained.get("made_from", {}).get("steps") or _steps(run, config))
    rate, peft = _rate(strong, config, trained, progress)
    templated, end = look(strong)
    if templated is None and strong != STRONG:
        progress.note(
            f"nobody could look at the tokenizer of {strong}: rows are written for one with a chat "
            "template"
        )
    if config.loss != "lm":
        progress.note(f"the run trains with the loss {config.loss}, the exported settings with lm")
    if own := config.of_language_models:
        progress.note(f"settings that the other trainers do not have: train.{', train.'.join(own)}")
    return TrainSettings(
        config, str(redact_values(strong)), steps, warmup_length(config.warmup_steps, steps), rate,
        peft,
        templated, end,
    )  # fmt: skip


def _trained(run: Run) -> dict[str, Any]:
    """The manifest of the first model trained on the selection, {} where there is none."""
    return run.store.read_json("train/selected/seed-0/manifest.json") or {}


def _steps(run: Run, config: TrainConfig) -> int:
    """As many as the selection is worth; without one, those of the evidence planned."""
    planned = run.section("evidence").get("steps") if config.max_steps is None else None
    selected = run.section("selections").get("selected", {})
    return int(planned or plan_steps(int(selected.get("delivered", 1)), config))


def _rate(
    strong: str, config: TrainConfig, trained: dict[str, Any], progress: Progress
) -> tuple[float, bool]:
    """(learning rate, whether by LoRA): as trained, as asked, or by the rule of thumb."""
    if "learning_rate" in trained:
        return float(str(trained["learning_rate"])), bool(trained["peft"])
    asked = config.learning_rate
    if isinstance(asked, list):
        progress.note(f"of the learning rates {asked} the first is written")
        asked = asked[0]
    peft = config.use_peft
    if asked is not None and peft is not None:
        return asked, peft
    size = _parameters(strong)
    if size is None:
        progress.note(
            f"the size of {strong} is not known here: the settings are for LoRA"
            + ("" if asked else f" at a learning rate of {LORA_RATE:g}")
        )
        return asked or LORA_RATE, peft is not False
    from pilotfish.training.setup import LORA_FROM, default_learning_rate

    peft = size >= LORA_FROM if peft is None else peft
    return asked or default_learning_rate(size, peft=peft), peft


def _parameters(strong: str) -> int | None:
    """Weights of the strong model; None where it is not at hand, or torch is not."""
    if strong == STRONG:
        return None
    try:
        from pilotfish.models import count_parameters

        return count_parameters(strong)
    except (ImportError, PilotfishError):
        return None


def look(strong: str) -> tuple[bool | None, str | None]:
    """(whether its tokenizer has a chat template, its end token), without loading anything.

    (None, None) for a model that lies neither in a folder nor in the hub's cache.
    """
    config = _cached(strong, "tokenizer_config.json")
    if config is None:
        return None, None
    told = json.loads(config.read_text(encoding="utf-8"))
    end = told.get("eos_token")
    end = end.get("content") if isinstance(end, dict) else end
    templated = bool(told.get("chat_template")) or _cached(strong, "chat_template.jinja")
    return bool(templated), end


def _cached(strong: str, name: str) -> Path | None:
    if Path(strong).is_dir():
        path = Path(strong) / name
        return path if path.is_file() else None
    try:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(strong, name)
    except (ImportError, ValueError):  # no hub here, or a name that is none of its
        return None
    return Path(found) if isinstance(found, str) else None


def seeds_of(run: Run) -> list[int]:
    """The seeds that the run compares, else those of its random controls, else the first."""
    planned = [int(seed) for seed in run.section("evidence").get("seeds", ())]
    if planned:
        return planned
    drawn = [
        int(name.removeprefix("random-"))
        for name in run.section("selections")
        if name.removeprefix("random-").isdecimal()
    ]
    return sorted(drawn) or [0]
