"""FCA: which units follow the mean, and what a site's own model is made of, by hand on rows of two numbers."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods.squares import PLAIN, Point, Square, on_squares
from sammit.config import Experiment
from sammit.errors import UserError
from sammit.federation.memory import PrivateMemory
from sammit.federation.worker import Backbone, Worker
from sammit.geometry import View
from sammit.methods.fca import Method, Options
from sammit.vocabulary import Order, State, Update

ADAPTER = "vision_encoder.adapters.bottleneck.up"
WEIGHT, BIAS, HEAD = f"{ADAPTER}.weight", f"{ADAPTER}.bias", "mask_decoder.head"


def state(rows: list[list[float]], head: float = 0.0) -> State:
    return {WEIGHT: torch.tensor(rows, dtype=torch.float32), HEAD: torch.tensor(head)}


START = state([[0, 0], [0, 0], [0, 0], [0, 0]])
SENT = state([[1, 0], [1, 0], [1, 0], [1, 0]], 5)
MEAN = state([[2, 0], [1, 1], [0, 3], [-1, 0]], 7)  # cosines with SENT: 1, 0.71, 0, -1


def adapters(full: State) -> State:
    return {WEIGHT: full[WEIGHT]}


def mixed(**options: Any) -> list[list[float]]:
    found = Method(Options(**options)).mixed(adapters(SENT), adapters(START), MEAN)
    assert found.keys() == {WEIGHT}
    return [list(row) for row in found[WEIGHT].tolist()]


def test_binary_rule_by_hand() -> None:
    """Half of the rows, those that agree most, are the mean's; a quarter, one; all, all."""
    assert mixed(common=0.5) == [[2, 0], [1, 1], [1, 0], [1, 0]]
    assert mixed(common=0.25) == [[2, 0], [1, 0], [1, 0], [1, 0]]
    assert mixed(common=1.0) == MEAN[WEIGHT].tolist()


def test_smooth_rule_by_hand() -> None:
    """Each row's share is a sigmoid of its agreement in deviations from the mean agreement."""
    cosines = torch.tensor([1, 1 / sqrt(2), 0, -1], dtype=torch.float64)
    middle = float(cosines.mean())
    spread = sqrt(float(((cosines - middle) ** 2).mean()))
    share = (1 + torch.exp(-(cosines - middle) / (0.5 * spread))) ** -1
    wanted = share[:, None] * MEAN[WEIGHT] + (1 - share[:, None]) * SENT[WEIGHT]
    assert torch.tensor(mixed(rule="smooth", temperature=0.5)).numpy() == pytest.approx(wanted.numpy(), rel=1e-5)


def test_a_bias_goes_with_its_row() -> None:
    """It turns the row's agreement around, and follows it."""
    start = {WEIGHT: torch.zeros(2, 1), BIAS: torch.zeros(2)}
    sent = {WEIGHT: torch.ones(2, 1), BIAS: torch.tensor([0.0, 9.0])}
    mean = {WEIGHT: torch.ones(2, 1), BIAS: torch.tensor([0.0, -9.0])}
    found = Method().mixed(sent, start, mean)
    assert found[BIAS].tolist() == [0.0, 9.0] and found[WEIGHT].tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("rule", ["binary", "smooth"])
def test_a_unit_that_is_what_the_mean_is_stays_it(rule: Any) -> None:
    """Whatever its share: a federation of one site is plain training."""
    found = Method(Options(rule=rule)).mixed(adapters(SENT), adapters(START), SENT)
    assert torch.allclose(found[WEIGHT], SENT[WEIGHT])


def test_experts_stacked_in_one_tensor_have_rows_of_their_own() -> None:
    """(experts, out, in): a share for each out of each expert."""
    name = "vision_encoder.adapters.mixture.down"
    sent, mean = {name: torch.ones(3, 2, 4)}, {name: torch.ones(3, 2, 4)}
    mean[name][1, 0] = -2
    found = Method(Options(common=0.8)).mixed(sent, {name: torch.zeros(3, 2, 4)}, mean)
    assert torch.equal(found[name], torch.ones(3, 2, 4))


class Rows(nn.Module):
    """An adapter of 2 x 2 and a head; what the model says is a weighted sum of all five numbers."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.Linear(2, 2, bias=False)
        nn.init.zeros_(layer.weight)
        self.vision_encoder, self.mask_decoder = nn.Module(), nn.Module()
        self.vision_encoder.adapters = nn.ModuleDict({"bottleneck": nn.ModuleDict({"up": layer})})
        self.mask_decoder.register_parameter("head", nn.Parameter(torch.zeros(())))

    def forward(self, images: Tensor) -> Tensor:
        weight, head = self.parameters()
        total = (weight * torch.tensor([[1.0, 2.0], [0.0, 1.0]])).sum() + head
        return total.expand(len(images), 1, 1, 1)


def test_a_round_goes_on_from_the_mix(tmp_path: Path) -> None:
    """The worker trains the first round from the mean, the second from v; the server gets all, the site keeps two.

    Site: 1 / 2 (x - 1)^2 with d = (1, 2; 0, 1; 1), one step of 0.1. Round 0 from zero: g = -1, so every number becomes
    0.1 d. The mean that comes back agrees with the first row (0.1, 0.2) and is against the second (0, 0.1).
    """
    model = Rows()
    training = PLAIN.__class__(**{**vars(PLAIN), "local_steps": 1})
    backbone = Backbone.of(model, [WEIGHT, HEAD])
    memory = PrivateMemory(tmp_path)
    worker = Worker(
        Square("a", 1.0, 1.0), View("whole", 8), on_squares(Method()), backbone, memory, Experiment(training=training)
    )
    first = worker.handle(Order("train", "a", 0, dict(backbone.start), fingerprint="0"))
    assert isinstance(first, Update) and first.extras == {}
    assert first.tensors[WEIGHT].flatten().tolist() == pytest.approx([0.1, 0.2, 0.0, 0.1])
    mean = {WEIGHT: torch.tensor([[0.2, 0.4], [0.0, -0.3]]), HEAD: torch.tensor(0.5)}
    second = worker.handle(Order("train", "a", 1, mean, fingerprint="1", accepted=0, origin="0"))
    assert isinstance(second, Update)
    start = [0.2, 0.4, 0.0, 0.1]  # the first row is the mean's, the second its own
    pull = 1 - (0.2 + 2 * 0.4 + 0.1 + 0.5)  # b - x, the head being the mean's
    moved = [value + 0.1 * pull * d for value, d in zip(start, [1, 2, 0, 1], strict=True)]
    assert second.tensors[WEIGHT].flatten().tolist() == pytest.approx(moved)
    assert float(second.tensors[HEAD]) == pytest.approx(0.5 + 0.1 * pull)
    worker.handle(Order("keep", "a", 1, {}, accepted=1, origin="1"))
    kept = memory.committed()[0]
    assert kept.keys() == {f"sent.{WEIGHT}", f"received.{WEIGHT}"}
    assert torch.equal(kept[f"received.{WEIGHT}"], mean[WEIGHT])
    own = worker.method.personal(kept, mean)
    assert own.keys() == {WEIGHT}


def test_before_its_first_round_a_site_uses_the_mean() -> None:
    assert Method().personal({}, MEAN) == {}


def test_what_can_not_be(tmp_path: Path) -> None:
    """No adapter in the model; impossible options."""
    worker = Worker(
        Square("a", 1.0, 1.0),
        View("whole", 8),
        on_squares(Method()),
        backbone := Backbone.of(Point(), ["vision_encoder.body"]),
        PrivateMemory(tmp_path),
        Experiment(training=PLAIN),
    )
    with pytest.raises(UserError, match=r"model\.adapter: fca works on adapters"):
        worker.handle(Order("train", "a", 0, dict(backbone.start)))
    for options in ({"common": 0.0}, {"common": 1.1}, {"temperature": 0.0}):
        with pytest.raises(UserError, match="method: common"):
            Method(Options(**options))  # type: ignore[arg-type]
