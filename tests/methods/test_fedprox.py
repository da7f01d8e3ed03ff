"""FedProx on squares: the pull by hand, at the sites and in what the server makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from methods.squares import BODY, HEAD, PLAIN, Federation, on_squares, two_squares
from sammit.errors import UserError
from sammit.methods import base
from sammit.methods.fedprox import Method, Options
from sammit.methods.proximal import pulled


def near(a: float, b: float, mu: float, start: float) -> float:
    """Body and head alike after a site's steps: each closes on (a b + mu start) / (2 a + mu) by 1 - 0.1 (2 a + mu)."""
    least = (a * b + mu * start) / (2 * a + mu)
    return least + (start - least) * (1 - PLAIN.lr * (2 * a + mu)) ** PLAIN.local_steps


def test_sites_are_pulled_to_what_they_were_sent(tmp_path: Path) -> None:
    """Two rounds by hand: the second pulls to the mean of the first, and sites count by their samples."""
    run = Federation(on_squares(Method(Options(mu=0.5))), two_squares(), tmp_path)
    run.sites[1].count = 3
    first = (near(1, 0, 0.5, 0) + 3 * near(4, 1, 0.5, 0)) / 4
    second = [near(1, 0, 0.5, first), near(4, 1, 0.5, first)]
    server = run.run(2)
    assert [float(update.tensors[HEAD]) for update in run.updates] == pytest.approx(second)
    assert float(server.shared[BODY]) == pytest.approx((second[0] + 3 * second[1]) / 4)


def test_without_a_pull_it_is_federated_averaging(tmp_path: Path) -> None:
    """Bit for bit."""
    plain = Federation(on_squares(base.Method()), two_squares(), tmp_path / "fedavg").run(3)
    free = Federation(on_squares(Method(Options(mu=0.0))), two_squares(), tmp_path / "fedprox").run(3)
    assert plain.shared == free.shared and plain.shared[BODY] != 0


def test_a_strong_pull_holds_the_sites_together(tmp_path: Path) -> None:
    """The stronger, the less they part in a round."""
    apart = []
    for mu in (0.0, 0.5, 4.0):
        run = Federation(on_squares(Method(Options(mu=mu))), two_squares(), tmp_path / str(mu))
        run.run(1)
        flat, steep = (float(update.tensors[BODY]) for update in run.updates)
        apart.append(abs(steep - flat))
    assert apart == sorted(apart, reverse=True) and apart[0] > 1.4 * apart[2]


def test_the_square_is_of_the_norm_over_all_tensors() -> None:
    """1/2 * 3 * (1 + 4 + 4): by hand, and nothing where there is no name."""
    model = torch.nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0]]))
        model.bias.fill_(-2.0)
    nothing = {name: torch.zeros_like(tensor) for name, tensor in model.named_parameters()}
    objective = pulled(lambda batch: torch.zeros(()), model, nothing, 3.0)
    total = objective(None)  # type: ignore[arg-type]
    assert float(total.detach()) == pytest.approx(13.5)
    total.backward()
    assert torch.equal(model.weight.grad, 3 * model.weight.detach())  # type: ignore[arg-type]


def test_a_negative_pull_is_refused() -> None:
    with pytest.raises(UserError, match=r"method\.mu"):
        Method(Options(mu=-0.1))
