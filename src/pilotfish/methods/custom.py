"""A user's own method by dotted path `my_module:MyThing`: found, checked, completed."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.errors import UsageError
from pilotfish.methods.base import measured_reasons, ranker_for
from pilotfish.methods.rankers import Direction, Ranker
from pilotfish.records import Floats, Need, RowFeatures, Texts

_SHAPE = "a class with `needs` (a tuple of Need) and `score(self, seen)` -> one float per row"


def load_custom(path: str) -> type:
    """Import `module:Class`, the working folder included. UsageError says what is missing."""
    module, _, name = path.partition(":")
    try:
        with _working_folder():
            found = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise UsageError(
            f"cannot import the method '{path}': {error}",
            hint=f"run where {module.split('.')[0]}.py lies, or install it",
        ) from error
    except AttributeError as error:
        raise UsageError(f"the module {module} has no '{name}'", hint=f"write {_SHAPE}") from error
    missing = [part for part in ("needs", "score") if getattr(found, part, None) is None]
    if not isinstance(found, type) or missing:
        raise UsageError(f"'{path}' is no selector", hint=f"write {_SHAPE}")
    return found


@contextmanager
def _working_folder() -> Iterator[None]:
    """Let imports look into the current folder, as `python -m` does, and only meanwhile."""
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


@dataclass(frozen=True)
class CustomMethod:
    """A user's object with what it left out filled in; its scores get the house's checks."""

    inner: Any
    chosen: Direction | None = None

    @property
    def needs(self) -> tuple[Need, ...]:
        """What the object asks for."""
        return tuple(self.inner.needs)

    @property
    def direction(self) -> Direction | None:
        """Asked for, else the object's own, else high; None where its own ranker decides."""
        if self.chosen or self._own_ranker:
            return self.chosen
        own: Direction = getattr(self.inner, "direction", None) or "high"
        return own

    @property
    def reads_counts(self) -> bool:
        """Token counts are there for own methods unless they say otherwise."""
        return bool(getattr(self.inner, "reads_counts", True))

    @property
    def pool_relative(self) -> bool:
        """Own methods are shown the whole pool unless they say `pool_relative = False`."""
        return bool(getattr(self.inner, "pool_relative", True))

    @property
    def formula(self) -> str:
        """Its own words, else the first line of its docstring."""
        return str(getattr(self.inner, "formula", (self.inner.__doc__ or "").partition("\n")[0]))

    @property
    def cite(self) -> str:
        """Its own, else nothing."""
        return str(getattr(self.inner, "cite", ""))

    def score(self, seen: RowFeatures) -> Floats:
        """Its scores [n], nan wherever a signal it needs or the score itself is no number."""
        values = np.array(self.inner.score(seen), dtype=np.float64)
        if values.shape != (len(seen),):
            raise UsageError(
                f"{type(self.inner).__name__}.score gave shape {values.shape} for {len(seen)} rows"
            )
        values[self.reasons(seen, values) != ""] = np.nan
        return values

    def reasons(self, seen: RowFeatures, scores: Floats) -> Texts:
        """[n] why a row has no score, else ""."""
        return measured_reasons(self.needs, seen, scores)

    def ranker(self) -> Ranker:
        """The object's own ranker, else its direction's."""
        own = self._own_ranker
        ranker: Ranker = own() if own and not self.chosen else ranker_for(self.direction)
        return ranker

    @property
    def _own_ranker(self) -> Any:
        """The object's `ranker`, or `picker` as the method was called before; None without one."""
        return getattr(self.inner, "ranker", None) or getattr(self.inner, "picker", None)
