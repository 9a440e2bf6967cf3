"""What a scoring run costs at least, and the matrix-product speed it is held against."""

import time
from collections.abc import Callable, Iterator
from statistics import median

import torch

from pilotfish.flops import Shape, forward

# Rows x inner x columns, of a small model's body; the best of them counts as the machine's peak.
CPU_SIZES = ((2048, 2048, 2048), (2048, 768, 3072), (512, 768, 3072))
GPU_SIZES = ((8192, 8192, 8192), (16384, 4096, 4096))


def useful(shape: Shape, tokens: float, scored: float) -> float:
    """FLOPs nobody can save: the body at every token, the head where a token is scored.

    2 x parameters x tokens; attention is left out, so that shares of the peak are, if anything,
    too low.
    """
    return 2.0 * shape.body * tokens + 2.0 * shape.vocab * shape.width * scored


def plain(shape: Shape, tokens: float) -> float:
    """FLOPs of the plain peer for the same numbers: the head at every token."""
    return forward(shape, tokens)


def peaks(device: str = "cpu", *, repeats: int = 7) -> dict[str, float]:
    """The best measured FLOP/s (int8: operations) of a matrix product, by number format."""
    sizes = GPU_SIZES if device == "cuda" else CPU_SIZES
    found = {}
    for name, product in _products(device):
        try:
            found[name] = max(_speed(product, size, device, repeats) for size in sizes)
        except RuntimeError:  # no kernel of that format on this machine
            continue
    return found


Product = Callable[[int, int, int], Callable[[], object]]


def _products(device: str) -> Iterator[tuple[str, Product]]:
    def floats(kind: torch.dtype) -> Product:
        def made(m: int, k: int, n: int) -> Callable[[], object]:
            a = torch.randn(m, k, device=device, dtype=kind)
            b = torch.randn(k, n, device=device, dtype=kind)
            return lambda: torch.mm(a, b)

        return made

    def integers(m: int, k: int, n: int) -> Callable[[], object]:
        a = torch.randint(-128, 128, (m, k), device=device, dtype=torch.int8)
        b = torch.randint(-128, 128, (n, k), device=device, dtype=torch.int8).t()
        return lambda: torch._int_mm(a, b)

    yield "fp32", floats(torch.float32)
    yield "bf16", floats(torch.bfloat16)
    yield "int8", integers


def _speed(product: Product, size: tuple[int, int, int], device: str, repeats: int) -> float:
    """FLOP/s of the median repeat, each some 50 ms long."""
    run = product(*size)
    work = 2.0 * size[0] * size[1] * size[2]
    inner = max(int(0.05 / _clock(run, 1, device)), 1)
    return work / median(_clock(run, inner, device) for _ in range(repeats))


def _clock(run: Callable[[], object], times: int, device: str) -> float:
    run()
    _wait(device)
    begin = time.perf_counter()
    for _ in range(times):
        run()
    _wait(device)
    return (time.perf_counter() - begin) / times


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
