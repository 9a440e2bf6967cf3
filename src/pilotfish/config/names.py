"""Names that a recipe gives to arms and selections: each becomes a folder of the run."""

import re
from typing import Annotated

from pydantic import AfterValidator

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\-]{0,127}")


def _check(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name[:40]!r} cannot be a name: write letters, digits, '_', '-' and '.', at most 128"
        )
    return name


Name = Annotated[str, AfterValidator(_check)]
