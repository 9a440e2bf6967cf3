"""Custom methods: a class of the user's, named by a dotted path `my_module:MyThing`."""

import importlib
import sys
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
    """Import a class by its path `module:Class`; modules in the working folder are found too.

    Raises:
        UsageError: The module or the class does not exist, or lacks `needs` or `score`.
    """
    module, _, name = path.partition(":")
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does, for this import only
    try:
        found = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise _import_error(path, error) from error
    except AttributeError as error:
        raise UsageError(f"the module {module} has no '{name}'", hint=f"write {_SHAPE}") from error
    finally:
        sys.path[:] = before
    missing = [part for part in ("needs", "score") if getattr(found, part, None) is None]
    if not isinstance(found, type) or missing:
        raise UsageError(f"'{path}' is not a selector", hint=f"write {_SHAPE}")
    return found


def _import_error(path: str, error: ImportError) -> UsageError:
    """Say whether the method's module is missing, or something that it imports."""
    module = path.partition(":")[0]
    hint = f"run where {module.split('.')[0]}.py lies, or install it"
    if (error.name or "").startswith("pilotfish."):
        hint = "rankers are in pilotfish.methods.rankers, Need in pilotfish.records"
    elif error.name not in (None, module, module.split(".")[0]):
        hint = f"{module} imports {error.name}: install it, or mend the import"
    return UsageError(f"cannot import the method '{path}': {error}", hint=hint)


@dataclass(frozen=True)
class CustomMethod:
    """A custom method as a selector: with defaults for what it leaves out, and checked scores."""

    inner: Any
    chosen: Direction | None = None

    @property
    def needs(self) -> tuple[Need, ...]:
        """The features that the method needs."""
        return tuple(self.inner.needs)

    @property
    def direction(self) -> Direction | None:
        """The chosen one, else the method's own, else high; None if its own ranker decides."""
        if self.chosen or self._own_ranker:
            return self.chosen
        own: Direction = getattr(self.inner, "direction", None) or "high"
        return own

    @property
    def reads_counts(self) -> bool:
        """True unless the method says otherwise."""
        return bool(getattr(self.inner, "reads_counts", True))

    @property
    def pool_relative(self) -> bool:
        """True unless the method says otherwise: it is called with the whole pool."""
        return bool(getattr(self.inner, "pool_relative", True))

    @property
    def formula(self) -> str:
        """The method's own formula, else the first line of its docstring."""
        return str(getattr(self.inner, "formula", (self.inner.__doc__ or "").partition("\n")[0]))

    @property
    def cite(self) -> str:
        """The method's own citation, else an empty text."""
        return str(getattr(self.inner, "cite", ""))

    def score(self, seen: RowFeatures) -> Floats:
        """Return its scores [n], nan where a needed feature or the score itself is not finite.

        Raises:
            UsageError: The method does not return one number per row.
        """
        values = np.array(self.inner.score(seen), dtype=np.float64)
        if values.shape != (len(seen),):
            raise UsageError(
                f"{type(self.inner).__name__}.score returned shape {values.shape} for "
                f"{len(seen)} rows",
                hint="return one float per row",
            )
        values[self.reasons(seen, values) != ""] = np.nan
        return values

    def reasons(self, seen: RowFeatures, scores: Floats) -> Texts:
        """Return [n] why a row has no score, "" where it has one."""
        return measured_reasons(self.needs, seen, scores)

    def ranker(self) -> Ranker:
        """Return the method's own ranker, else the one of the direction."""
        own = self._own_ranker
        if own is None or self.chosen:
            return ranker_for(self.direction)
        kind = type(self.inner)
        try:
            ranker: Ranker = own()
        except ImportError as error:
            raise _import_error(f"{kind.__module__}:{kind.__name__}", error) from error
        return ranker

    @property
    def _own_ranker(self) -> Any:
        """The method's `ranker`, or `picker`, its former name; None if it has neither."""
        return getattr(self.inner, "ranker", None) or getattr(self.inner, "picker", None)
