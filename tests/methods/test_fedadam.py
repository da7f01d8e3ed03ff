"""FedAdam: the server's Adam by hand."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import pytest
import torch

from methods.squares import BODY, HEAD, Federation, on_squares, two_squares
from sammit.errors import UserError
from sammit.methods.base import Server
from sammit.methods.fedadam import Method, Options
from sammit.vocabulary import Update


def update(site: str, *values: float, samples: int = 1) -> Update:
    return Update(site, 0, {"w": torch.tensor(values)}, {}, samples, {})


def test_two_rounds_by_hand() -> None:
    """From w = 1, with Delta = (1 * 2 + 3 * 6) / 4 - 1 = 4 in the first number and nothing in the second."""
    method = Method(Options(lr=0.5, beta1=0.8, beta2=0.9, tau=0.1))
    updates = [update("a", 2.0, 7.0), update("b", 6.0, 7.0, samples=3)]
    server = method.aggregate(Server({"w": torch.tensor([1.0, 7.0])}), updates)
    m, v = 0.2 * 4, 0.9 * 0.1**2 + 0.1 * 4**2
    w = 1 + 0.5 * m / (sqrt(v) + 0.1)
    assert server.memory["first.w"].tolist() == pytest.approx([m, 0.0])
    assert server.memory["second.w"].tolist() == pytest.approx([v, 0.9 * 0.1**2])
    assert server.shared["w"].tolist() == pytest.approx([w, 7.0])
    server = method.aggregate(server, [update("a", 0.0, 7.0)])
    m, v = 0.8 * m + 0.2 * (0 - w), 0.9 * v + 0.1 * w**2
    assert server.shared["w"].tolist() == pytest.approx([w + 0.5 * m / (sqrt(v) + 0.1), 7.0])


def test_a_number_that_no_site_moves_stays_bit_for_bit() -> None:
    method, server = Method(), Server({"w": torch.tensor([0.1, 0.3])})
    for _ in range(3):
        server = method.aggregate(server, [update("a", 0.1, 0.3), update("b", 0.1, 0.3, samples=5)])
    assert server.shared["w"].tolist() == torch.tensor([0.1, 0.3]).tolist()


def test_a_steady_change_is_taken_at_the_servers_rate() -> None:
    """m = Delta and v = Delta^2 in the long run, so that a step is eta Delta / (|Delta| + tau)."""
    method, server = Method(Options(lr=0.1)), Server({"w": torch.tensor([0.0])})
    for _ in range(2000):
        before = float(server.shared["w"])
        server = method.aggregate(server, [update("a", before + 0.5)])
    assert float(server.shared["w"]) - before == pytest.approx(0.1 * 0.5 / 0.501, rel=1e-3)


def test_it_comes_to_where_the_sites_changes_cancel(tmp_path: Path) -> None:
    """FedAvg's own resting point, by another way."""
    server = Federation(on_squares(Method(Options(lr=0.02))), two_squares(), tmp_path).run(150)
    assert float(server.shared[BODY] + server.shared[HEAD]) == pytest.approx(0.5979, abs=5e-3)


@pytest.mark.parametrize(
    "options", [{"lr": 0.0}, {"tau": 0.0}, {"beta1": 1.0}, {"beta2": -0.1}, {"beta2": float("nan")}]
)
def test_options_that_cannot_be_right(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match=rf"method.*{next(iter(options))}"):
        Method(Options(**options))
