"""The steps around an integer product: by hand, compiled against torch, and where numbers end."""

import math

import pytest
import torch

from pilotfish.engine.int8 import native as module
from pilotfish.engine.int8.native import CompiledKernels
from pilotfish.engine.int8.plain import ACTIVATIONS, Product, TorchKernels, act, group, rotate

NAN, INF = float("nan"), float("inf")


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def product_of(m: int, n: int) -> Product:
    """int32 sums with scales of rows and columns and a bias: numbers of order one."""
    sums = (draw(m, n) * 5000).int()
    return Product(sums, draw(m, seed=1).abs() / 50, draw(n, seed=2).abs() / 50, draw(n, seed=3))


def test_quantise_by_hand(each: TorchKernels) -> None:
    x = torch.tensor([[127.0, -63.5, 0.4], [0.0, 0.0, 0.0], [-2.0, 1.0, 0.5]])
    q, scale = each.quantise(x, torch.ones(3))
    # halves go to the even neighbour: 63.5 -> 64, and 31.75 -> 32
    assert q.tolist() == [[127, -64, 0], [0, 0, 0], [-127, 64, 32]]
    assert scale[0] == 1 and scale[2] == torch.tensor(2.0) / 127
    assert 0 < scale[1] < 1e-30


def test_balance_multiplies_columns_first(each: TorchKernels) -> None:
    x, balance = draw(5, 19), 2.0 ** torch.arange(-9, 10)
    found, known = each.quantise(x, balance), each.quantise(x * balance, torch.ones(19))
    assert all(map(torch.equal, found, known))


def test_rescale_by_hand(each: TorchKernels) -> None:
    sums = torch.tensor([[10, -20], [3, 0]], dtype=torch.int32)
    row, column, bias = (torch.tensor(x) for x in ([0.5, 2.0], [1.0, 4.0], [1.0, -1.0]))
    y = each.rescale(Product(sums, row, column, bias))
    assert y.tolist() == [[6.0, -41.0], [7.0, -1.0]]


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (5, 16), (4, 33), (7, 1000)])
def test_compiled_and_torch_give_the_same_bits(
    compiled: CompiledKernels, shape: tuple[int, int]
) -> None:
    x, balance = draw(*shape) * 3, torch.exp2(draw(shape[1]).round())
    for one, other in zip(
        compiled.quantise(x, balance), TorchKernels().quantise(x, balance), strict=True
    ):
        assert torch.equal(one, other)
    made = product_of(*shape)
    assert torch.equal(compiled.rescale(made), TorchKernels().rescale(made))


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations_are_those_of_torch(compiled: CompiledKernels, kind: str) -> None:
    product = product_of(9, 37)
    known = act(kind, TorchKernels().rescale(product).double())
    q, scale = compiled.activate(product, kind, torch.ones(37))
    assert ((q * scale[:, None] - known).abs() <= scale[:, None] * 0.5001 + 1e-6).all()
    assert (q.abs().amax(dim=1) == 127).all()


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_gates_are_those_of_torch(each: TorchKernels, kind: str) -> None:
    product = product_of(6, 46)
    first, second = TorchKernels().rescale(product).double().chunk(2, dim=1)
    known, balance = act(kind, first) * second, torch.exp2(-torch.arange(23) % 4)
    q, scale = each.gate(product, kind, balance)
    off = (q * scale[:, None] - known * balance).abs()
    assert (off <= scale[:, None] * 0.5001 + 1e-5).all()


def test_rotation_by_hand() -> None:
    x = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    assert rotate(x).tolist() == [[15.0, -5.0, -9.0, 3.0]]
    one = torch.zeros(1, 32)
    one[0, 5] = 1.0  # spread over the columns 5 + 2i, which are 16 of its 32
    assert rotate(one).abs().tolist() == [[float(j % 2) for j in range(32)]]


@pytest.mark.parametrize(
    ("k", "size"), [(3, 1), (12, 4), (48, 16), (172, 4), (320, 64), (3072, 64)]
)
def test_rotation_is_undone_by_itself_and_keeps_length(k: int, size: int) -> None:
    x = draw(5, k).double()
    assert group(k) == size
    assert torch.allclose(rotate(rotate(x)), size * x)
    assert torch.allclose(rotate(x).norm(dim=1), size**0.5 * x.norm(dim=1))


@pytest.mark.parametrize("n", [3, 12, 48, 172, 320])
def test_middles_are_rotated_alike_in_c_and_in_torch(compiled: CompiledKernels, n: int) -> None:
    """With relu, which both take exactly: the same bits."""
    product = product_of(6, 2 * n)
    balance = torch.exp2(-(torch.arange(2 * n) % 3))
    for one, other in zip(
        compiled.gate(product, "relu", balance[:n]),
        TorchKernels().gate(product, "relu", balance[:n]),
        strict=True,
    ):
        assert torch.equal(one, other)
    known = rotate(TorchKernels().rescale(product).relu() * balance)
    q, scale = compiled.activate(product, "relu", balance)
    assert ((q * scale[:, None] - known).abs() <= scale[:, None] * 0.5001).all()


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_what_is_not_finite_stays_so_and_stays_in_its_row(each: TorchKernels, bad: float) -> None:
    x = draw(3, 21)
    clean = each.quantise(x, torch.ones(21))
    x[1, 20] = bad
    q, scale = each.quantise(x, torch.ones(21))
    assert scale[1].isnan() and not q[1].any()
    for row in (0, 2):
        assert torch.equal(q[row], clean[0][row]) and scale[row] == clean[1][row]
    column = torch.ones(21)
    product = Product(q.int(), scale, column, column)
    assert each.rescale(product)[1].isnan().all()
    assert each.activate(product, "gelu", column)[1][1].isnan()
    # 16 columns: those are rotated
    even = Product(product.sums[:, :16].contiguous(), scale, column[:16], column[:16])
    assert each.activate(even, "relu", column[:16])[1].isnan().tolist() == [False, True, False]
    top, total = torch.full((3,), -INF), torch.zeros(3)
    each.accumulate(product, (top, total))
    lse = top + total.log()
    assert not lse[1].isfinite() and lse[[0, 2]].isfinite().all()


def test_numbers_too_small_or_too_large_for_a_scale(each: TorchKernels) -> None:
    x = torch.tensor([[1e-42, -1e-42], [3e38, -1e38], [1e-25, 0.0]])
    q, scale = each.quantise(x, torch.ones(2))
    assert q.tolist() == [[0, 0], [127, -42], [127, 0]]
    assert scale.isfinite().all()


@pytest.mark.parametrize("width", [1, 15, 16, 40, 100])
def test_accumulate_is_log_sum_exp_whatever_the_tiles(each: TorchKernels, width: int) -> None:
    sums, row, column, bias = product_of(8, 100)
    column = column * 20  # logits up to a few hundred, where plain exponentials overflow
    logits = sums.double() * (row[:, None] * column).double() + bias
    top, total = torch.full((8,), -INF), torch.zeros(8)
    for first in range(0, 100, width):
        here = slice(first, first + width)
        tile = sums[:, here].contiguous()
        each.accumulate(Product(tile, row, column[here], bias[here]), (top, total))
    known = logits.logsumexp(dim=1)
    assert torch.allclose((top + total.log()).double(), known, rtol=1e-6, atol=1e-5)


def test_bits_do_not_depend_on_threads_or_on_other_rows(compiled: CompiledKernels) -> None:
    made, before = product_of(33, 200), torch.get_num_threads()

    def run(rows: slice) -> list[torch.Tensor]:
        product = Product(made.sums[rows], made.row[rows], made.column, made.bias)
        top, total = torch.full((len(product.sums),), -INF), torch.zeros(len(product.sums))
        compiled.accumulate(product, (top, total))
        middle = compiled.activate(product, "gelu", torch.ones(200))
        return [top, total, *middle, compiled.rescale(product)]

    known = run(slice(None))
    try:
        torch.set_num_threads(2)
        assert all(map(torch.equal, run(slice(None)), known))
    finally:
        torch.set_num_threads(before)
    part = run(slice(7, 12))
    assert all(torch.equal(one, all_[7:12]) for one, all_ in zip(part, known, strict=True))


def test_without_a_compiler_torch_steps_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    assert module.kernels.__wrapped__().name == "torch"


def test_a_compiler_that_fails_or_errs_is_not_used(
    monkeypatch: pytest.MonkeyPatch, compiled: CompiledKernels
) -> None:
    monkeypatch.setattr(module, "_FLAGS", ("--no-such-flag",))
    assert module.kernels.__wrapped__().name == "torch"
    monkeypatch.setattr(module, "_build", lambda: Crooked(compiled))
    assert module.kernels.__wrapped__().name == "torch"


class Crooked:
    """A library built wrong: it rescales with rows and columns in each other's place."""

    def __init__(self, compiled: CompiledKernels) -> None:
        self.quantise = compiled._library.quantise

    @staticmethod
    def rescale(*arguments: object) -> None:
        del arguments


def test_exponentials_are_close_over_the_whole_range(compiled: CompiledKernels) -> None:
    x = torch.linspace(-80, 0, 4001)
    top, total = torch.zeros(4001), torch.zeros(4001)  # e^(x - 0) is all that is added
    whole = (x * 2**10).round().int()[:, None]
    row = torch.full((4001,), 2.0**-10)
    compiled.accumulate(Product(whole, row, torch.ones(1), torch.zeros(1)), (top, total))
    known = (whole[:, 0].double() / 2**10).exp()
    assert ((total - known).abs() <= 3e-7 * known).all()
    assert math.isclose(float(total[-1]), 1.0)
