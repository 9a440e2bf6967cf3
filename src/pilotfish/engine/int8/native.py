"""The pointwise steps around an integer product: compiled where there is a C compiler, else torch.

The C file is compiled when first needed (below a second), loaded, and its folder thrown away:
nothing is cached, so nothing can be stale, shared with other users, or raced for.
"""

import ctypes
import os
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from pilotfish.engine.int8.plain import ACTIVATIONS, Plain

_SOURCE = Path(__file__).with_name("native.c")
# Trapping and errno are given up, signed zeros too; never nan, infinities or the order of sums.
_FLAGS = (
    "-O3", "-std=gnu11", "-shared", "-fPIC", "-ffp-contract=off",
    "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros",
)  # fmt: skip
# Best first: threads and this machine's widest vectors, then what compilers lack of them.
_TRIES = (
    ("-fopenmp", "-march=native", "-mprefer-vector-width=512"),
    ("-fopenmp", "-mcpu=native"),
    ("-fopenmp-simd", "-march=native"),
    ("-fopenmp-simd", "-mcpu=native"),
    (),
)
_SECONDS = 60

Kernels = Plain  # what both offer


@lru_cache(maxsize=1)
def kernels() -> Kernels:
    """The compiled kernels, or the plain ones where they cannot be built or do not agree."""
    library = _build()
    if library is None:
        return Plain()
    compiled = Compiled(library)
    return compiled if agrees(compiled, Plain()) else Plain()


def agrees(one: Kernels, other: Kernels) -> bool:
    """Whether two kernels give the same bits for a small matrix, in both directions."""
    x = torch.linspace(-3, 5, 5 * 37).reshape(5, 37).roll(7, dims=0)
    column = torch.linspace(0.5, 2, 37)
    found, known = one.quantise(x, column), other.quantise(x, column)
    sums = known[0].int() * 1000
    back = (each.rescale(sums, known[1], column, column) for each in (one, other))
    return all(map(torch.equal, found, known)) and torch.equal(*back)


class Compiled(Plain):
    """`Plain` with every step in one pass over memory, rows shared between torch's threads."""

    name = "compiled"

    def __init__(self, library: Any) -> None:
        self._library = library

    def quantise(self, x: torch.Tensor, balance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Plain`."""
        x = x.contiguous()
        q, scale = torch.empty(x.shape, dtype=torch.int8), torch.empty(len(x))
        self._call("quantise", x, balance, q, scale, *x.shape)
        return q, scale

    def rescale(
        self, sums: torch.Tensor, row: torch.Tensor, column: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        """See `Plain`."""
        y = torch.empty(sums.shape)
        self._call("rescale", sums, row, column, bias, y, *sums.shape)
        return y

    def activate(
        self,
        sums: torch.Tensor,
        row: torch.Tensor,
        column: torch.Tensor,
        bias: torch.Tensor,
        kind: str,
        balance: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Plain`."""
        q, scale = torch.empty(sums.shape, dtype=torch.int8), torch.empty(len(sums))
        number = ACTIVATIONS.index(kind)
        self._call("activate", sums, row, column, bias, number, balance, q, scale, *sums.shape)
        return q, scale

    def gate(
        self,
        sums: torch.Tensor,
        row: torch.Tensor,
        column: torch.Tensor,
        bias: torch.Tensor,
        kind: str,
        balance: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Plain`."""
        m, n = len(sums), sums.shape[1] // 2
        q, scale = torch.empty((m, n), dtype=torch.int8), torch.empty(m)
        number = ACTIVATIONS.index(kind)
        self._call("gate", sums, row, column, bias, number, balance, q, scale, m, n)
        return q, scale

    def accumulate(
        self,
        sums: torch.Tensor,
        row: torch.Tensor,
        column: torch.Tensor,
        bias: torch.Tensor,
        running: tuple[torch.Tensor, torch.Tensor],
    ) -> None:
        """See `Plain`."""
        self._call("accumulate", sums, row, column, bias, *running, *sums.shape)

    def _call(self, name: str, *arguments: torch.Tensor | int) -> None:
        """Tensors go as addresses: contiguous, on the CPU, alive until the call returns."""
        raw: list[Any] = []
        for each in arguments:
            if isinstance(each, torch.Tensor):
                assert each.is_contiguous(), name
                raw.append(ctypes.c_void_p(each.data_ptr()))
            else:
                raw.append(ctypes.c_int64(each))
        getattr(self._library, name)(*raw, ctypes.c_int64(torch.get_num_threads()))


def _build() -> Any:
    """The loaded library, None where no compiler makes one that loads."""
    if os.name == "nt":
        return None
    for compiler in dict.fromkeys((os.environ.get("CC", "cc"), "cc", "gcc", "clang")):
        for flags in _TRIES:
            with tempfile.TemporaryDirectory(prefix="pilotfish-") as folder:
                try:
                    return _load(compiler, flags, Path(folder) / "native.so")
                except FileNotFoundError:
                    break  # no such compiler
                except (OSError, subprocess.SubprocessError):
                    continue
    return None


def _load(compiler: str, flags: tuple[str, ...], target: Path) -> Any:
    command = [*compiler.split(), *_FLAGS, *flags, str(_SOURCE), "-o", str(target), "-lm"]
    subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
    return ctypes.CDLL(str(target))
