"""Pointwise steps around an integer product, compiled where there is a C compiler.

The C file is compiled on first use (below a second), loaded, and its folder deleted: nothing is
cached, so nothing can be stale, shared with other users, or subject to a race.
"""

import ctypes
import os
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from pilotfish.engine.int8.plain import ACTIVATIONS, Product, Quantised, TorchKernels

_SOURCE = Path(__file__).with_name("native.c")
# Gives up floating-point traps, errno and signed zeros; keeps nan, infinities and order of sums.
_FLAGS = (
    *("-O3", "-std=gnu11", "-shared", "-fPIC", "-ffp-contract=off"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"),
)
# Best first: threads and this machine's widest vectors, then without what some compilers lack.
_TRIES = (
    ("-fopenmp", "-march=native", "-mprefer-vector-width=512"),
    ("-fopenmp", "-mcpu=native"),
    ("-fopenmp-simd", "-march=native"),
    ("-fopenmp-simd", "-mcpu=native"),
    (),
)
_SECONDS = 60  # time limit of one compilation


@lru_cache(maxsize=1)
def kernels() -> TorchKernels:
    """Return the compiled kernels, or the torch ones where those cannot be built or disagree."""
    library = _build()
    if library is None:
        return TorchKernels()
    compiled = CompiledKernels(library)
    return compiled if agrees(compiled, TorchKernels()) else TorchKernels()


def agrees(one: TorchKernels, other: TorchKernels) -> bool:
    """Return whether two kernels quantise and rescale a small matrix to the same bits."""
    x = torch.linspace(-3, 5, 5 * 37).reshape(5, 37).roll(7, dims=0)
    column = torch.linspace(0.5, 2, 37)
    found, known = one.quantise(x, column), other.quantise(x, column)
    product = Product(known[0].int() * 1000, known[1], column, column)
    return all(map(torch.equal, found, known)) and torch.equal(
        one.rescale(product), other.rescale(product)
    )


class CompiledKernels(TorchKernels):
    """`TorchKernels` with every step in one pass over memory, rows shared by torch's threads."""

    name = "compiled"

    def __init__(self, library: Any) -> None:
        self._library = library

    def quantise(self, x: torch.Tensor, balance: torch.Tensor) -> Quantised:
        """See `TorchKernels`."""
        x = x.contiguous()
        q, scale = torch.empty(x.shape, dtype=torch.int8), torch.empty(len(x))
        self._call("quantise", x, balance, q, scale, *x.shape)
        return q, scale

    def rescale(self, product: Product) -> torch.Tensor:
        """See `TorchKernels`."""
        y = torch.empty(product.sums.shape)
        self._call("rescale", *product, y, *y.shape)
        return y

    def activate(self, product: Product, kind: str, balance: torch.Tensor) -> Quantised:
        """See `TorchKernels`."""
        return self._middle("activate", product, kind, balance, product.sums.shape[1])

    def gate(self, product: Product, kind: str, balance: torch.Tensor) -> Quantised:
        """See `TorchKernels`."""
        return self._middle("gate", product, kind, balance, product.sums.shape[1] // 2)

    def _middle(
        self, name: str, product: Product, kind: str, balance: torch.Tensor, n: int
    ) -> Quantised:
        m = len(product.sums)
        q, scale = torch.empty((m, n), dtype=torch.int8), torch.empty(m)
        self._call(name, *product, ACTIVATIONS.index(kind), balance, q, scale, m, n)
        return q, scale

    def accumulate(self, product: Product, running: tuple[torch.Tensor, torch.Tensor]) -> None:
        """See `TorchKernels`."""
        self._call("accumulate", *product, *running, *product.sums.shape)

    def _call(self, name: str, *arguments: torch.Tensor | int) -> None:
        """Call C. Tensors are passed as addresses: contiguous, on the CPU, alive meanwhile."""
        raw: list[Any] = []
        for each in arguments:
            if isinstance(each, torch.Tensor):
                assert each.is_contiguous(), name
                raw.append(ctypes.c_void_p(each.data_ptr()))
            else:
                raw.append(ctypes.c_int64(each))
        getattr(self._library, name)(*raw, ctypes.c_int64(torch.get_num_threads()))


def _build() -> Any:
    """Compile and load the library; return None where no compiler makes one that loads."""
    if os.name == "nt":
        return None
    for compiler in dict.fromkeys((os.environ.get("CC", "cc"), "cc", "gcc", "clang")):
        for flags in _TRIES:
            with tempfile.TemporaryDirectory(prefix="pilotfish-") as folder:
                target = Path(folder) / "native.so"
                output = (str(_SOURCE), "-o", str(target), "-lm")
                command = [*compiler.split(), *_FLAGS, *flags, *output]
                try:
                    subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
                    return ctypes.CDLL(str(target))
                except FileNotFoundError:
                    break  # no such compiler
                except (OSError, subprocess.SubprocessError):
                    continue
    return None
