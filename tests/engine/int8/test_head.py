"""The int8 head: log-sum-exp without logits, the true logit in fp32, bits of their own."""

import pytest
import torch
from torch import nn

from pilotfish.engine.int8 import head as module
from pilotfish.engine.int8.head import Int8Head
from pilotfish.engine.signals.tokens import FacetRequest


def make(vocabulary: int, d: int = 48, *, bias: bool = False) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(d, vocabulary, bias=bias).requires_grad_(False)


def states(m: int, d: int = 48) -> torch.Tensor:
    return torch.randn(m, d, generator=torch.Generator().manual_seed(1)) * 3


def ids(m: int, vocabulary: int) -> torch.Tensor:
    return torch.randint(0, vocabulary, (m,), generator=torch.Generator().manual_seed(2))


def wanted(targets: torch.Tensor, *names: str, k: int = 0) -> FacetRequest:
    return FacetRequest(frozenset(names), targets, k)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("vocabulary", [17, 300, 2048, 5003])
def test_near_fp32_for_odd_vocabularies(vocabulary: int, bias: bool) -> None:
    linear, h, true = make(vocabulary, bias=bias), states(9), ids(9, vocabulary)
    head = Int8Head(linear)
    known = nn.functional.cross_entropy(linear(h), true, reduction="none")
    assert (head.nll(h, true) - known).abs().max() < 0.01
    assert torch.allclose(head.target_logits(h, true), linear(h)[range(9), true], atol=1e-5)
    joined = torch.cat([tile for _, tile in head.head_tiles(h)], dim=1)
    assert joined.shape == (9, vocabulary)
    assert [first for first, _ in head.head_tiles(h)] == list(range(0, vocabulary, module._WIDTH))
    assert (joined - linear(h)).abs().max() < 0.1
    assert torch.allclose(head.log_sum(h), joined.double().logsumexp(1).float(), atol=1e-5)


def test_bits_do_not_depend_on_other_tokens_or_other_facets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head, h, true = Int8Head(make(3001)), states(23), ids(23, 3001)
    known = head.facets(h, wanted(true, "nll", "entropy", "hit", "top_ids", "top_logs", k=5))
    assert torch.equal(head.facets(h, wanted(true, "nll"))["nll"], known["nll"])
    part = head.facets(h[5:9], wanted(true[5:9], "nll", "hit", "top_ids", k=5))
    for name, values in part.items():
        assert torch.equal(values, known[name][5:9]), name
    monkeypatch.setattr(module, "_ROWS", 4)
    assert torch.equal(head.facets(h, wanted(true, "nll"))["nll"], known["nll"])


def test_facets_are_those_of_the_logits() -> None:
    linear, h, true = make(500), states(40), ids(40, 500)
    found = Int8Head(linear).facets(h, wanted(true, "entropy", "hit", "top_ids", "top_logs", k=3))
    logs = linear(h).log_softmax(dim=1)
    assert (found["entropy"] + (logs.exp() * logs).sum(dim=1)).abs().max() < 0.02
    assert (found["top_logs"] - logs.topk(3).values).abs().max() < 0.05
    assert found["top_ids"].shape == (40, 3)


def test_what_the_model_does_after_its_head() -> None:
    linear, h, true = make(300), states(12), ids(12, 300)

    def cap(logits: torch.Tensor) -> torch.Tensor:
        return 0.5 * torch.tanh(logits / 0.5)

    known = nn.functional.cross_entropy(cap(linear(h)), true, reduction="none")
    assert (Int8Head(linear, cap).nll(h, true) - known).abs().max() < 0.01


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_not_finite_states_have_no_number(bad: float) -> None:
    head, h, true = Int8Head(make(300)), states(5), ids(5, 300)
    clean = head.nll(h, true)
    h[3, 7] = bad
    found = head.nll(h, true)
    assert not found[3].isfinite() and torch.equal(found[[0, 1, 2, 4]], clean[[0, 1, 2, 4]])


def test_a_sure_token_never_costs_less_than_nothing() -> None:
    linear = make(300)
    h = linear.weight[:50] * 200  # each state points at its own id
    nats = Int8Head(linear).nll(h, torch.arange(50))
    assert (nats >= 0).all() and (nats < 0.5).any()


def test_no_tokens() -> None:
    found = Int8Head(make(300)).facets(states(0), wanted(ids(0, 300), "nll", "hit"))
    assert {name: values.shape for name, values in found.items()} == {"nll": (0,), "hit": (0,)}
