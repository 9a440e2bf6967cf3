"""Settings as the other trainers spell them."""

from typing import Any

import yaml

SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def given(name: str, value: Any) -> dict[str, Any]:
    """The setting, where the run has one."""
    return {} if value is None else {name: value}


def yaml_text(settings: dict[str, Any]) -> str:
    """YAML in the order given."""
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
