"""Tensors under dotted names outside of their model, and mixtures of two states."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from methods.conftest import bench
from sammit.methods.mixing import Tensors, mixed
from sammit.methods.state import take


def test_names_and_values_are_the_models() -> None:
    """Whole dotted names, numbers among them; values are copies."""
    b = bench("fedavg")
    state = take(b.model, b.backbone.live)
    tensors = Tensors(state, b.model)
    own = dict(tensors.named_parameters())
    assert own.keys() == state.keys() and all(torch.equal(own[name].detach(), state[name]) for name in state)
    with torch.no_grad():
        own[b.backbone.live[0]].add_(1)
    assert not torch.equal(own[b.backbone.live[0]].detach(), state[b.backbone.live[0]])


def test_a_mixture_by_hand() -> None:
    """A number for a tensor, or one for each element; the ends are exact."""
    start, end = {"x": torch.tensor([0.1, 0.3])}, {"x": torch.tensor([1.1, -0.7]), "y": torch.zeros(1)}
    assert mixed(start, end, {"x": torch.tensor(0.25)})["x"].tolist() == pytest.approx([0.35, 0.05])
    assert mixed(start, end, {"x": torch.tensor([0.5, 0.0])})["x"].tolist() == pytest.approx([0.6, 0.3])
    assert torch.equal(mixed(start, end, {"x": torch.tensor(0.0)})["x"], start["x"])
    assert torch.equal(mixed(start, end, {"x": torch.ones(2)})["x"], end["x"])
    assert mixed(start, end, {}) == {}


def test_a_gradient_reaches_end_and_weight() -> None:
    """d/dend = weight, d/dweight = end - start."""
    end, weight = nn.Parameter(torch.tensor(3.0)), torch.tensor(0.25, requires_grad=True)
    mixed({"x": torch.tensor(1.0)}, {"x": end}, {"x": weight})["x"].backward()  # type: ignore[no-untyped-call]
    assert (float(end.grad), float(weight.grad)) == (0.25, 2.0)  # type: ignore[arg-type]
