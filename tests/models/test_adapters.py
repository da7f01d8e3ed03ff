"""Adapters: nothing at first, what their equations say afterwards, and their counts."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from models.conftest import randomise, relative
from sammit.errors import UserError
from sammit.models.adapters import bottleneck, lora, mixture
from sammit.models.build import set_trainable
from sammit.models.sam import PromptFreeSam

Make = Callable[..., PromptFreeSam]
WIDTH = 12


def logits(model: PromptFreeSam) -> Tensor:
    """On one fixed batch."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return model(images)  # type: ignore[no-any-return]


def tokens() -> Tensor:
    return torch.randn(2, 3, 3, WIDTH, generator=torch.Generator().manual_seed(6))


@pytest.mark.parametrize("names", [("lora",), ("bottleneck",), ("mixture",), ("lora", "bottleneck", "mixture")])
def test_the_base_model_at_first(tiny: Make, names: tuple[str, ...]) -> None:
    """Bit for bit: an adapter that starts at zero must not even round."""
    assert torch.equal(logits(tiny(adapter=names)), logits(tiny()))


def test_fedfms_initialisation_is_not_the_base_model(tiny: Make) -> None:
    model = tiny(adapter=("bottleneck",), options={"bottleneck": {"init": "fedfms"}})
    assert relative(logits(model), logits(tiny())) > 1e-2


def adapters_of(model: PromptFreeSam, name: str) -> list[nn.Module]:
    """One for each block."""
    return [block.adapters[name] for block in model.vision_encoder.blocks]


@pytest.mark.parametrize("name", ["lora", "bottleneck", "mixture"])
def test_inactive_means_absent(tiny: Make, name: str) -> None:
    model = tiny(adapter=(name,))
    for adapter in adapters_of(model, name):
        randomise(adapter, 0.5)
    assert relative(logits(model), logits(tiny())) > 1e-3
    for adapter in adapters_of(model, name):
        adapter.active = False  # type: ignore[assignment]
    assert torch.equal(logits(model), logits(tiny()))


def test_a_weight_scales_what_an_adapter_adds(tiny: Make) -> None:
    """Half of two equal adapters is one of them; no weight is none."""
    single, double = tiny(adapter=("bottleneck",)), tiny(adapter=("bottleneck", "own_bottleneck"))
    for one, first, second in zip(
        *(adapters_of(single, "bottleneck"), adapters_of(double, "bottleneck"), adapters_of(double, "own_bottleneck")),
        strict=True,
    ):
        randomise(one, 0.5)
        for other in (first, second):
            other.load_state_dict(one.state_dict())
            other.weight = 0.5
    assert relative(logits(double), logits(single)) <= 1e-5
    for adapter in adapters_of(single, "bottleneck"):
        adapter.weight = 0.0
    assert torch.equal(logits(single), logits(tiny()))


def test_lora_is_its_merged_matrix(tiny: Make) -> None:
    """W_q + s B_q A_q and W_v + s B_v A_v in the fused layer, k untouched, give the same map."""
    model = tiny(adapter=("lora",), options={"lora": {"rank": 3, "alpha": 6.0}})
    merged = tiny()
    for block, plain in zip(model.vision_encoder.blocks, merged.vision_encoder.blocks, strict=True):
        adapter = block.adapters["lora"]
        randomise(adapter, 0.3)
        assert isinstance(adapter, lora.Adapter) and adapter.scale == 2.0
        q, v = (
            2 * up.weight.data @ down.weight.data
            for up, down in ((adapter.q_up, adapter.q_down), (adapter.v_up, adapter.v_down))
        )
        plain.attn.qkv.weight.data += torch.cat([q, torch.zeros_like(q), v])
    assert relative(logits(model), logits(merged)) <= 1e-5
    assert relative(logits(merged), logits(tiny())) > 1e-3


def test_bottlenecks_by_hand() -> None:
    """After attention A(a); beside the MLP s A(u), s = 1/2; GELU or ReLU between."""
    for activation, function in (("gelu", nn.functional.gelu), ("relu", torch.relu)):
        adapter = bottleneck.Adapter(WIDTH, bottleneck.Options(activation=activation))  # type: ignore[arg-type]
        randomise(adapter, 0.5)
        for part, found, scale in (
            (adapter.attention, adapter.after_attention(tokens()), 1.0),
            (adapter.mlp, adapter.beside_mlp(tokens()), 0.5),
        ):
            down, up = part[0], part[2]
            assert down.weight.shape == (3, WIDTH)
            hidden = function(tokens() @ down.weight.T + down.bias)  # type: ignore[operator]
            assert relative(found, scale * (hidden @ up.weight.T + up.bias)) <= 1e-6


def experts(**options: object) -> mixture.Adapter:
    adapter = mixture.Adapter(WIDTH, mixture.Options(**options))  # type: ignore[arg-type]
    randomise(adapter, 0.5)
    return adapter


@pytest.mark.parametrize("top_k", [0, 1, 2, 4])
def test_gates_sum_to_one(top_k: int) -> None:
    gates = experts(top_k=top_k).gates(tokens())
    assert gates.shape == (2, 3, 3, 4)
    assert torch.allclose(gates.sum(-1), torch.ones(2, 3, 3))
    assert (gates > 0).sum(-1).unique().tolist() == [top_k or 4]


def test_mixture_by_hand() -> None:
    """One expert at a time, from the equation."""
    adapter = experts(temperature=0.7, scale=0.3)
    u = tokens()
    gates = ((u @ adapter.gate.weight.T + adapter.gate.bias) / 0.7).softmax(-1)
    expected = torch.zeros_like(u)
    for e in range(4):
        expected += gates[..., e : e + 1] * (nn.functional.gelu(u @ adapter.down[e].T) @ adapter.up[e].T)
    assert relative(adapter.beside_mlp(u), 0.3 * expected) <= 1e-5


def test_all_experts_are_dense_routing() -> None:
    dense, sparse = experts(), experts(top_k=4)
    sparse.load_state_dict(dense.state_dict())
    assert relative(sparse.beside_mlp(tokens()), dense.beside_mlp(tokens())) <= 1e-6


def test_one_expert_is_a_plain_adapter() -> None:
    adapter = experts(experts=1)
    expected = nn.functional.gelu(tokens() @ adapter.down[0].T) @ adapter.up[0].T
    assert relative(adapter.beside_mlp(tokens()), expected) <= 1e-6


def test_balance_is_one_for_uniform_gates_and_grows() -> None:
    """E sum f P: 1 where all gates are equal, E where one expert takes everything; dense routing has none."""
    adapter = experts(top_k=2)
    with torch.no_grad():
        adapter.gate.weight.zero_()
        adapter.gate.bias.zero_()
        adapter.gates(tokens())
        assert adapter.balance is not None and float(adapter.balance) == pytest.approx(1.0)
        adapter.gate.bias[0] = 50.0
        adapter.gates(tokens())
        assert float(adapter.balance) == pytest.approx(4.0)
    dense = experts()
    dense.gates(tokens())
    assert dense.balance is None


def test_balance_pushes_the_router() -> None:
    adapter = experts(top_k=1)
    adapter.beside_mlp(tokens())
    assert adapter.balance is not None
    adapter.balance.backward()
    assert adapter.gate.weight.grad is not None and float(adapter.gate.weight.grad.abs().sum()) > 0
    assert deepcopy(adapter).balance is None, "a copy leaves the graph behind"


def test_load_counts_passes_in_evaluation_only() -> None:
    adapter = experts()
    adapter.beside_mlp(tokens())
    assert adapter.passes == 0
    adapter.eval()
    adapter.beside_mlp(tokens())
    adapter.beside_mlp(tokens())
    assert adapter.passes == 2
    assert torch.allclose(adapter.load, 2 * adapter.gates(tokens()).flatten(0, -2).mean(0))
    adapter.reset_load()
    assert adapter.passes == 0 and float(adapter.load.sum()) == 0


@pytest.mark.parametrize(
    ("name", "options", "formula"),
    [
        # two factor pairs: 4 D R
        ("lora", {"rank": 4}, lambda d: 4 * d * 4),
        # two bottlenecks: D h + h and h D + D each, h = D / 4
        ("bottleneck", {}, lambda d: 2 * (2 * d * (d // 4) + d // 4 + d)),
        # E experts of 2 D r_e, and the router D E + E
        ("mixture", {"experts": 4, "width": 8}, lambda d: 4 * 2 * d * 8 + 4 * d + 4),
        ("mixture", {"experts": 4, "width": 4}, lambda d: 4 * 2 * d * 4 + 4 * d + 4),
    ],
)
def test_counts_are_formulas(tiny: Make, name: str, options: dict[str, object], formula: Callable[[int], int]) -> None:
    """A block of width D; ViT-B's twelve blocks of 768 are in test_counts.py."""
    for adapter in adapters_of(tiny(adapter=(name,), options={name: options}), name):
        assert sum(parameter.numel() for parameter in adapter.parameters()) == formula(96)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lora", {"rank": 0}),
        ("lora", {"rank": 97}),
        ("lora", {"rnk": 4}),
        ("bottleneck", {"ratio": 0.0}),
        ("bottleneck", {"activation": "tanh"}),
        ("mixture", {"experts": 0}),
        ("mixture", {"top_k": 5}),
        ("mixture", {"temperature": 0.0}),
        ("mixture", {"width": 0}),
    ],
)
def test_wrong_options_are_refused_by_name(tiny: Make, name: str, options: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"model.{name}"):
        tiny(adapter=(name,), options={name: options})


RESIDUAL = {"lora": {"residual": True, "alpha": 8.0}, "decoder_lora": {"residual": True}}


def test_what_pairs_cannot_hold_is_zero_trained_by_nobody_and_changes_no_start(tiny: Make) -> None:
    """Every other tensor is drawn as without it: runs with and without start from one state."""
    plain, model = (tiny(adapter=tuple(RESIDUAL), options=options) for options in ({"lora": {"alpha": 8.0}}, RESIDUAL))
    names = [name for name, _ in model.named_parameters() if name.endswith("_rest")]
    assert len(names) == 2 * (len(adapters_of(model, "lora")) + 7)
    assert all(not bool(p.any()) for name, p in model.named_parameters() if name in names)
    for train in ("all", "adapters"):
        assert set_trainable(model, train) == set_trainable(plain, train)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in plain.state_dict().items())
    assert torch.equal(logits(model), logits(plain))


def test_what_pairs_cannot_hold_is_added_in_their_scale(tiny: Make) -> None:
    """B A moved from the factors into the matrix beside them: the same answer."""
    model = tiny(adapter=tuple(RESIDUAL), options=RESIDUAL)
    randomise(model, 0.2)
    expected = logits(model)
    with torch.no_grad():
        own = dict(model.named_parameters())
        for name, rest in own.items():
            if name.endswith("_rest"):
                up, down = (own[f"{name.removesuffix('_rest')}_{factor}.weight"] for factor in ("up", "down"))
                rest += up @ down
                up.zero_()
    assert relative(logits(model), expected) < 1e-4
