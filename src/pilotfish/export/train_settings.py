"""The training settings that an export writes: those with which the run itself would train."""

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

LORA_RATE = 2e-4  # where the size of the model is unknown: the rule of thumb for LoRA


def train_settings_of(
    run: Run, progress: Progress, *, strong: str | None = None, overrides: Sequence[str] = ()
) -> TrainSettings:
    """Return the recipe's settings, completed by what the run's own training decided.

    Args:
        run: The run.
        progress: Receives notes on settings that cannot be exported as they are.
        strong: Another strong model than the run's.
        overrides: `train.NAME=VALUE` texts, applied on top.
    """
    config = train_config(run, overrides)
    trained = run.store.read_json("train/selected/seed-0/manifest.json") or {}
    known = run.section("config").get("strong") or trained.get("strong")
    if strong or overrides:
        trained = {}
    strong = strong or str(known or STRONG)
    if Path(strong).is_dir():
        strong = str(Path(strong).resolve())  # the config is used in another folder
    steps = trained.get("made_from", {}).get("steps")
    if not steps and config.max_steps is None:
        steps = run.section("evidence").get("steps")
    if not steps:
        selected = run.section("selections").get("selected", {})
        steps = plan_steps(int(selected.get("delivered", 1)), config)
    rate, peft = _rate_and_peft(strong, config, trained, progress)
    templated, end = read_tokenizer_config(strong)
    if templated is None and strong != STRONG:
        progress.note(
            f"the tokenizer of {strong} is not on this machine: rows are written for one with a "
            "chat template"
        )
    if config.loss != "lm":
        progress.note(f"the run trains with the loss {config.loss}, the exported settings with lm")
    if own := config.of_language_models:
        progress.note(f"settings that the other trainers do not have: train.{', train.'.join(own)}")
    return TrainSettings(
        config,
        str(redact_values(strong)),
        int(steps),
        warmup_length(config.warmup_steps, int(steps)),
        rate,
        peft,
        templated,
        end,
    )


def _rate_and_peft(
    strong: str, config: TrainConfig, trained: dict[str, Any], progress: Progress
) -> tuple[float, bool]:
    """Return the learning rate and whether by LoRA: as trained, as set, or by the model's size."""
    if "learning_rate" in trained:
        return float(str(trained["learning_rate"])), bool(trained["peft"])
    rate, peft = config.learning_rate, config.use_peft
    if isinstance(rate, list):
        progress.note(f"of the learning rates {rate} the first is written")
        rate = rate[0]
    if rate is not None and peft is not None:
        return rate, peft
    size = None
    if strong != STRONG:
        try:
            from pilotfish.models import count_parameters

            size = count_parameters(strong)
        except (ImportError, PilotfishError):  # neither the model nor torch need be here
            size = None
    if size is None:
        progress.note(
            f"the size of {strong} is not known here: the settings are for LoRA"
            + ("" if rate else f" at a learning rate of {LORA_RATE:g}")
        )
        return rate or LORA_RATE, peft is not False
    from pilotfish.training.setup import LORA_FROM, default_learning_rate

    peft = size >= LORA_FROM if peft is None else peft
    return rate or default_learning_rate(size, peft=peft), peft


def read_tokenizer_config(strong: str) -> tuple[bool | None, str | None]:
    """Read from files alone whether a model's tokenizer has a chat template, and its end token.

    Returns:
        (None, None) for a model that is neither in a folder nor in the hub's cache.
    """
    config = _cached_file(strong, "tokenizer_config.json")
    if config is None:
        return None, None
    settings = json.loads(config.read_text(encoding="utf-8"))
    end = settings.get("eos_token")
    end = end.get("content") if isinstance(end, dict) else end
    templated = bool(settings.get("chat_template")) or _cached_file(strong, "chat_template.jinja")
    return bool(templated), end


def _cached_file(strong: str, name: str) -> Path | None:
    if Path(strong).is_dir():
        path = Path(strong) / name
        return path if path.is_file() else None
    try:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(strong, name)
    except (ImportError, ValueError):  # no hub client here, or not a name of the hub
        return None
    return Path(found) if isinstance(found, str) else None


def seeds_of(run: Run) -> list[int]:
    """Return the seeds that the run compares, else those of its random controls, else [0]."""
    planned = [int(seed) for seed in run.section("evidence").get("seeds", ())]
    if planned:
        return planned
    drawn = [
        int(name.removeprefix("random-"))
        for name in run.section("selections")
        if name.removeprefix("random-").isdecimal()
    ]
    return sorted(drawn) or [0]
