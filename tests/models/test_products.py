"""Products by oneDNN against torch's own in double precision; and where they are used at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.conftest import relative
from sammit.models import products

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


@pytest.fixture
def held_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A processor on which MKL holds back, and no layer too small to notice."""
    monkeypatch.setattr(products, "mkl_holds_back", lambda: True)
    monkeypatch.setattr(products, "PAYS", 0)
    return iter(())


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(2, 3, 5, 8), (6, 8), (8,)])
@pytest.mark.usefixtures("held_back")
def test_a_layer_says_what_it_would_and_so_do_its_gradients(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    layer = products.Linear(8, 7, bias=bias)
    exact = nn.Linear(8, 7, bias=bias, dtype=torch.float64)
    exact.load_state_dict({name: tensor.double() for name, tensor in layer.state_dict().items()})
    tokens = torch.randn(shape, requires_grad=True)
    same = tokens.detach().double().requires_grad_()
    found, expected = layer(tokens), exact(same)
    assert "Product" in type(found.grad_fn).__name__
    asked = torch.randn(found.shape)
    found.backward(asked)
    expected.backward(asked.double())
    pairs = [(found, expected), (tokens.grad, same.grad)]
    pairs += [(one.grad, other.grad) for one, other in zip(layer.parameters(), exact.parameters(), strict=True)]
    assert all(relative(one, other) <= 1e-6 for one, other in pairs)


@needs_onednn
@pytest.mark.usefixtures("held_back")
def test_a_frozen_layer_keeps_nothing_of_its_tokens() -> None:
    layer = products.Linear(8, 7).requires_grad_(False)
    kept: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one.shape) or one, lambda one: one):
        layer(torch.randn(4, 8, requires_grad=True)).sum().backward()
    assert kept == [torch.Size([7, 8])]


@needs_onednn
def test_however_matrices_lie_in_memory() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 9, 30), torch.randn(2, 5, 30)
    for one, other in ((a[1, :, ::3], b[0, :, ::3]), (a[0].T[:9, :9].T, b[0, :, :9]), (a[0, :, 3:8], b[1].T[3:8].T)):
        assert relative(products.times(one, other), one.double() @ other.double().T) <= 1e-6


def test_plain_layers_alone_are_swapped() -> None:
    class Other(nn.Linear):
        """A layer that somebody else has a reason for."""

    net = nn.Sequential(nn.Linear(2, 3), nn.Sequential(Other(3, 3), nn.Linear(3, 1)), nn.GELU())
    before = dict(net.named_parameters())
    products.swap_linears(net)
    assert [type(net[0]), type(net[1][0]), type(net[1][1])] == [products.Linear, Other, products.Linear]
    assert all(tensor is before[name] for name, tensor in net.named_parameters())


@pytest.mark.usefixtures("held_back")
def test_torchs_own_product_where_ours_cannot_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = torch.randn(4, 8)
    assert products.in_onednn(tokens)
    assert not products.in_onednn(tokens.double())
    assert not products.in_onednn(tokens.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not products.in_onednn(tokens)
    with sdpa_kernel(SDPBackend.MATH):
        assert not products.in_onednn(tokens)
        layer = products.Linear(8, 7)
        first = torch.autograd.grad((layer(tokens.requires_grad_()) ** 2).sum(), tokens, create_graph=True)[0]
        first.sum().backward()
        assert layer.weight.grad is not None
    monkeypatch.setattr(products, "is_tracing", lambda: True)
    assert not products.in_onednn(tokens)


@pytest.mark.parametrize(
    ("told", "expected"),
    [("vendor_id : AuthenticAMD", True), ("vendor_id : GenuineIntel", False), ("CPU implementer : 0x41", False)],
)
def test_whose_processor(told: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "DESCRIBED", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text(told)
    both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    assert products.mkl_holds_back.__wrapped__() is (expected and both)
