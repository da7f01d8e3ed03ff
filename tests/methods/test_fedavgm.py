"""FedAvgM: the server's momentum by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from methods.squares import BODY, HEAD, Federation, on_squares, two_squares
from sammit.errors import UserError
from sammit.methods import base
from sammit.methods.base import Server
from sammit.methods.fedavgm import Method, Options
from sammit.vocabulary import Update


def update(site: str, value: float, samples: int = 1) -> Update:
    return Update(site, 0, {"w": torch.tensor([value])}, {}, samples, {})


def test_two_rounds_by_hand() -> None:
    """Delta = (1 * 2 + 3 * 6) / 4 - 1 = 4, m = 4, w = 1 + 0.5 * 4 = 3; then Delta = 5 - 3, m = 0.8 * 4 + 2 = 5.2."""
    method, server = Method(Options(momentum=0.8, lr=0.5)), Server({"w": torch.tensor([1.0])})
    server = method.aggregate(server, [update("a", 2.0, 1), update("b", 6.0, 3)])
    assert server.shared["w"].tolist() == [3.0] and server.memory["momentum.w"].tolist() == [4.0]
    server = method.aggregate(server, [update("a", 5.0)])
    assert server.memory["momentum.w"].tolist() == pytest.approx([5.2])
    assert server.shared["w"].tolist() == pytest.approx([3.0 + 0.5 * 5.2])


def test_it_goes_on_after_a_round_that_changed_nothing() -> None:
    """m = 0.9 * 1 without any change of a site; before the first change nothing moves at all."""
    method, server = Method(), Server({"w": torch.tensor([1.0])})
    server = method.aggregate(server, [update("a", 1.0)])
    assert server.shared["w"].tolist() == [1.0] and server.memory["momentum.w"].tolist() == [0.0]
    server = method.aggregate(server, [update("a", 2.0)])
    server = method.aggregate(server, [update("a", 2.0)])
    assert server.shared["w"].tolist() == pytest.approx([2.9])


def test_without_momentum_it_is_fedavg(tmp_path: Path) -> None:
    plain = Federation(on_squares(base.Method()), two_squares(), tmp_path / "fedavg").run(3)
    found = Federation(on_squares(Method(Options(momentum=0.0))), two_squares(), tmp_path / "fedavgm").run(3)
    for name in (BODY, HEAD):
        assert float(found.shared[name]) == pytest.approx(float(plain.shared[name]))


@pytest.mark.parametrize("options", [{"momentum": 1.0}, {"momentum": -0.1}, {"lr": 0.0}, {"lr": float("nan")}])
def test_options_that_cannot_be_right(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match=rf"method.*{next(iter(options))}"):
        Method(Options(**options))
