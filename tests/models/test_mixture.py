"""The mixture's choices: what an expert is, where the experts stand, and what the router's use is told as."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.conftest import randomise, relative
from sammit.models.adapters import bottleneck, mixture
from sammit.models.sam import PromptFreeSam

Make = Callable[..., PromptFreeSam]
WIDTH, BLOCKS = 12, 4


def tokens(width: int = WIDTH) -> Tensor:
    return torch.randn(2, 3, 3, width, generator=torch.Generator().manual_seed(6))


def experts(**options: Any) -> mixture.Adapter:
    adapter = mixture.Adapter(WIDTH, mixture.Options(**options))
    randomise(adapter, 0.5)
    return adapter


def mixed(tiny: Make, **options: Any) -> PromptFreeSam:
    return tiny(adapter=("mixture",), options={"mixture": options})


def logits(model: PromptFreeSam) -> Tensor:
    """On one fixed batch."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return model(images)  # type: ignore[no-any-return]


def routers(model: PromptFreeSam) -> dict[int, mixture.Adapter]:
    """By block."""
    found = {i: block.adapters["mixture"] for i, block in enumerate(model.vision_encoder.blocks) if block.adapters}
    return {i: adapter for i, adapter in found.items() if isinstance(adapter, mixture.Adapter)}


# What an expert is


@pytest.mark.parametrize("top_k", [0, 2])
def test_low_rank_experts_by_hand(top_k: int) -> None:
    """s sum_e g_e U_e D_e u, one expert at a time: linear in the token but for the gates."""
    adapter = experts(expert="low_rank", scale=0.3, top_k=top_k)
    u = tokens()
    gates = adapter.gates(u)
    expected = sum(gates[..., e : e + 1] * (u @ (adapter.up[e] @ adapter.down[e]).T) for e in range(4))
    assert relative(adapter.mixed(u), 0.3 * expected) <= 1e-5  # type: ignore[operator]
    assert relative(experts(scale=0.3, top_k=top_k).mixed(u), adapter.mixed(u)) > 0.1, "GELU makes a difference"


def test_one_expert_is_medical_sams_bottleneck() -> None:
    """The same tensors in the bottleneck beside the MLP, whose biases are zero: the same map and gradient."""
    plain = bottleneck.Adapter(WIDTH, bottleneck.Options(ratio=0.25, scale=0.7))
    adapter = mixture.Adapter(WIDTH, mixture.Options(experts=1, width=3, scale=0.7))
    randomise(adapter, 0.5)
    down, up = plain.mlp[0], plain.mlp[2]
    with torch.no_grad():
        for layer, weight in ((down, adapter.down[0]), (up, adapter.up[0])):
            layer.weight.copy_(weight)  # type: ignore[operator]
            layer.bias.zero_()  # type: ignore[operator]
    found, expected = adapter.mixed(tokens()), plain.beside_mlp(tokens())
    assert relative(found, expected) <= 1e-6
    found.square().sum().backward()
    expected.square().sum().backward()
    assert adapter.down.grad is not None and adapter.up.grad is not None
    assert relative(adapter.down.grad[0], down.weight.grad) <= 1e-5  # type: ignore[arg-type]
    assert relative(adapter.up.grad[0], up.weight.grad) <= 1e-5  # type: ignore[arg-type]


def test_all_experts_chosen_are_trained_as_dense_ones_are() -> None:
    """The gradient of every tensor, the router's too."""
    dense, sparse = experts(), experts(top_k=4)
    sparse.load_state_dict(dense.state_dict())
    for adapter in (dense, sparse):
        adapter.mixed(tokens()).square().sum().backward()
    for name, parameter in dense.named_parameters():
        other = sparse.get_parameter(name).grad
        assert parameter.grad is not None and other is not None and relative(other, parameter.grad) <= 1e-5, name


# Where they stand


def test_beside_attention_by_hand(tiny: Make) -> None:
    """The block's own equation: the experts read what attention reads, and add to what it gives."""
    model = mixed(tiny, beside="attention")
    randomise(model, 0.1)
    block = model.vision_encoder.blocks[1]
    adapter: Any = block.adapters["mixture"]
    given = tokens(96)
    with torch.no_grad():
        u = block.layer_norm1(given)
        y = given + block._attend(u) + adapter.mixed(u)
        assert relative(block(given), y + block.mlp(block.layer_norm2(y))) <= 1e-6
        adapter.active = False
        assert relative(block(given), y + block.mlp(block.layer_norm2(y))) > 1e-3


@pytest.mark.parametrize("options", [{"beside": "attention"}, {"expert": "low_rank"}, {"blocks": "global"}])
def test_the_base_model_at_first(tiny: Make, options: dict[str, str]) -> None:
    """Bit for bit, whatever is chosen; away from zero it is another model than the default's."""
    model = mixed(tiny, **options)
    assert torch.equal(logits(model), logits(tiny()))
    default = mixed(tiny)
    for one in (model, default):
        for adapter in routers(one).values():
            randomise(adapter, 0.5)
    assert relative(logits(model), logits(default)) > 1e-3


@pytest.mark.parametrize(
    ("blocks", "chosen"), [("all", [0, 1, 2, 3]), ("last_half", [2, 3]), ("every_other", [1, 3]), ("global", [1, 3])]
)
def test_no_other_block_has_a_tensor(tiny: Make, blocks: str, chosen: list[int]) -> None:
    """sam-tiny's second and fourth block have no windows."""
    model = mixed(tiny, blocks=blocks)
    assert list(routers(model)) == chosen
    found = {int(name.split(".")[2]) for name, _ in model.named_parameters() if ".adapters." in name}
    assert sorted(found) == chosen


# What is told of the routers


@pytest.mark.parametrize("options", [{}, {"top_k": 2}, {"top_k": 1}, {"beside": "attention"}, {"expert": "low_rank"}])
def test_every_kind_of_router_tells_its_use(tiny: Make, options: dict[str, Any]) -> None:
    """In evaluation each block's mean gates, which sum to one, are counted, wherever the experts stand."""
    model = mixed(tiny, **options).eval()
    for adapter in routers(model).values():
        randomise(adapter, 0.5)
    logits(model)
    logits(model)
    assert len(routers(model)) == BLOCKS
    for adapter in routers(model).values():
        mean = adapter.load / adapter.passes
        assert adapter.passes == 2 and mean.shape == (4,)
        assert float(mean.sum()) == pytest.approx(1.0, abs=1e-5)
        assert float(mean.std()) > 1e-4


def test_the_mean_gates_of_sparse_routing_are_those_that_were_used() -> None:
    """One token, two of four experts: the others' use is nothing."""
    adapter = experts(top_k=2).eval()
    one = tokens()[0, 0, 0]
    adapter.mixed(one.view(1, 1, 1, -1))
    scores = nn.functional.linear(one, adapter.gate.weight, adapter.gate.bias).detach()
    first, second = scores.topk(2).indices.tolist()
    weight = float((scores[first] - scores[second]).sigmoid())
    expected = torch.zeros(4)
    expected[first], expected[second] = weight, 1 - weight
    assert torch.allclose(adapter.load, expected, atol=1e-6)
