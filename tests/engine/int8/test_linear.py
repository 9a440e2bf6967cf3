"""Int8 linear layers against a slow exact computation, and against fp32 within a proven bound."""

from fractions import Fraction

import pytest
import torch
from torch import nn

from pilotfish.engine.int8.linear import Int8Linear, QuantizedWeight
from pilotfish.engine.int8.native import kernels
from pilotfish.engine.int8.plain import rotate

SHAPES = [(1, 16, 16), (5, 17, 23), (3, 48, 80), (130, 100, 37)]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_by_hand() -> None:
    weight = torch.tensor([[127.0, 0.0], [0.0, -127.0]])
    layer = Int8Linear(weight, torch.tensor([1.0, 0.0]))
    assert layer.narrow.q.tolist() == [[127, 0], [0, -127]]
    assert layer.narrow.balance.tolist() == [1.0, 1.0]
    # 127 and 2.6, which rounds to 3
    assert layer(torch.tensor([[127.0, 2.6]])).tolist() == [[127 * 127 + 1.0, -3 * 127.0]]


@pytest.mark.parametrize(("m", "k", "n"), SHAPES)
def test_equals_exact_arithmetic_on_the_rounded_numbers(m: int, k: int, n: int) -> None:
    layer, x = Int8Linear(draw(n, k), draw(n, seed=1)), draw(m, k, seed=2)
    narrow = layer.narrow
    q, row = narrow.inputs(x)
    found = layer(x)
    for i in range(min(m, 3)):
        for j in range(0, n, 5):
            exact = sum(a * b for a, b in zip(q[i].tolist(), narrow.q[j].tolist(), strict=True))
            scale = row[i] * narrow.scale[j]  # fp32, as the layer takes them
            known = torch.tensor(float(exact)) * scale + narrow.bias[j]
            assert found[i, j] == known


@pytest.mark.parametrize(("m", "k", "n"), SHAPES)
def test_error_is_within_half_a_step_of_weights_and_inputs(m: int, k: int, n: int) -> None:
    weight, x = draw(n, k), draw(m, k, seed=2)
    layer = Int8Linear(weight)
    balance = layer.narrow.balance.double()
    _, row = layer.narrow.inputs(x)
    x_step, w_step = row.double() / 2, layer.narrow.scale.double() / 2
    x_size = (x.double() * balance).abs().sum(dim=1)
    w_size = (weight.double() / balance).abs().sum(dim=1)
    bound = x_size[:, None] * w_step + w_size * x_step[:, None] + k * x_step[:, None] * w_step
    off = (layer(x).double() - x.double() @ weight.double().T).abs()
    assert (off <= bound * 1.001).all()
    assert off.max() > 0


def test_rows_do_not_see_each_other() -> None:
    layer, x = Int8Linear(draw(40, 24)), draw(11, 24, seed=1)
    together = layer(x)
    assert torch.equal(together, torch.cat([layer(one[None]) for one in x]))
    assert torch.equal(layer(x.view(1, 11, 24)), together[None])


def test_results_outlive_the_next_product() -> None:
    layer = Int8Linear(draw(40, 24))
    first = layer(draw(3, 24, seed=1))
    kept = first.clone()
    layer(draw(3, 24, seed=2))
    assert torch.equal(first, kept)


def test_bias_none_is_a_bias_of_zero() -> None:
    weight, x = draw(20, 18), draw(4, 18, seed=1)
    assert torch.equal(Int8Linear(weight)(x), Int8Linear(weight, torch.zeros(20))(x))


def test_weights_kept_the_other_way_round() -> None:
    weight, x = draw(18, 20), draw(4, 18, seed=1)
    assert torch.equal(Int8Linear(weight.t())(x), Int8Linear(weight.t().contiguous())(x))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_not_finite_in_is_not_finite_out(bad: float) -> None:
    weight, x = draw(20, 18), draw(4, 18, seed=1)
    clean = Int8Linear(weight)(x)
    x[2, 5] = bad
    found = Int8Linear(weight)(x)
    assert not found[2].isfinite().any() and torch.equal(found[[0, 1, 3]], clean[[0, 1, 3]])
    weight[7, 3] = bad
    assert not Int8Linear(weight)(x)[:, 7].isfinite().any()


def test_a_row_of_zeros_gives_the_bias() -> None:
    bias = draw(20, seed=3)
    assert torch.equal(Int8Linear(draw(20, 18), bias)(torch.zeros(2, 18)), bias.expand(2, 20))


def test_weights_of_zeros_and_dead_columns() -> None:
    x = draw(4, 18)
    assert not Int8Linear(torch.zeros(20, 18))(x).any()
    weight = draw(20, 18, seed=1)
    weight[:, 3] = 0
    x[:, 3] = 1e4  # of no weight, so it must not cost the others their resolution
    off = Int8Linear(weight)(x) - nn.functional.linear(x, weight)
    assert off.abs().max() < 0.5


def test_balance_is_exact_and_undone_by_the_weights() -> None:
    weight = draw(32, 24)
    weight[:, 4] /= 64
    balance = QuantizedWeight.of(weight).balance
    assert all(Fraction(value).numerator == 1 for value in balance.tolist())
    assert balance[4] == balance.min() == 2.0**-3  # the root of 1/64, to a power of two
    x = draw(50, 24, seed=1)
    x[:, 4] *= 64
    off = (Int8Linear(weight)(x) - nn.functional.linear(x, weight)).norm()
    plain = Int8Linear(draw(32, 24))(draw(50, 24, seed=1)) - draw(50, 24, seed=1) @ draw(32, 24).T
    assert off < 4 * plain.norm()


def test_rotated_weights_answer_rotated_inputs_and_heavy_tails_cost_less() -> None:
    x, weight = draw(40, 96) ** 5, draw(20, 96, seed=1)
    exact = x.double() @ weight.double().T

    def off(narrow: QuantizedWeight, inputs: torch.Tensor) -> float:
        q, row = kernels().quantise(inputs, torch.ones(96))
        found = kernels().rescale(narrow.product(q, row))
        return float((found - exact).norm() / exact.norm())

    plain, rotated = QuantizedWeight.of(weight), QuantizedWeight.of(weight, rotated=True)
    spread = off(rotated, rotate(x * rotated.balance))
    assert spread < 0.02 and spread < 0.7 * off(plain, x * plain.balance)
