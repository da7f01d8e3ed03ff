"""The encoder with adapters against transformers' own in double precision, the same adapters hooked into it.

The reference does everything the slow way: windows filled up with tokens of zeros before qkv, adapters on all of them.
"""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from models.conftest import randomise, relative
from sammit.models import attention
from sammit.models.adapters import bottleneck, lora, mixture
from sammit.models.adapters.base import BlockAdapter
from sammit.models.encoder import Encoder, resized_grid

Grid = tuple[int, int]

BOUND = 1e-5
"""Of the norm of a difference over the norm of what is expected, tensor by tensor."""


class Biased(BlockAdapter):
    """What it makes of a token of zeros is not zero, as with no adapter of Sammit's, but as it might be."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 3 * width)

    def to_qkv(self, tokens: Tensor) -> Tensor:
        """(..., D) -> (..., 3 D)."""
        return self.layer(tokens)  # type: ignore[no-any-return]


def adapters(width: int) -> nn.ModuleDict:
    """One of each kind; the mixture beside the attention, whose input the reference sees in windows."""
    return nn.ModuleDict(
        {
            "lora": lora.Adapter(width, lora.Options()),
            "biased": Biased(width),
            "bottleneck": bottleneck.Adapter(width, bottleneck.Options()),
            "beside": mixture.Adapter(width, mixture.Options(beside="attention")),
            "mixture": mixture.Adapter(width, mixture.Options(top_k=2)),
        }
    )


def hook(layer: nn.Module, added: nn.ModuleDict) -> None:
    """Adapters into a layer of transformers'."""

    def summed(name: str, given: Tensor, base: Tensor) -> Tensor:
        extras = (getattr(adapter, name)(given) for adapter in added.values())
        return base + sum(extra for extra in extras if extra is not None)

    def around(
        _: nn.Module, __: tuple[()], given: dict[str, Tensor], said: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, ...]:
        adapted = summed("after_attention", said[0], said[0])
        return summed("beside_attention", given["hidden_states"], adapted), said[1]

    layer.attn.qkv.register_forward_hook(lambda _, given, said: summed("to_qkv", given[0], said))
    layer.attn.register_forward_hook(around, with_kwargs=True)
    layer.mlp.register_forward_hook(lambda _, given, said: summed("beside_mlp", given[0], said))
    layer.adapters = added


def encoders(grid: Grid, **changes: object) -> tuple[Encoder, SamVisionEncoder]:
    """Ours in fp32 and transformers' in fp64, the same random weights in both, none of them zero."""
    torch.manual_seed(0)
    values: dict[str, object] = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "global_attn_indexes": [1],
        "image_size": 16 * max(grid),
        "window_size": 14,
        "output_channels": 16,
        "mlp_dim": 48,
        "initializer_range": 0.02,
    }
    config = SamVisionConfig(**{**values, **changes})
    config._attn_implementation = "eager"
    original = SamVisionEncoder(config)
    original.pos_embed = nn.Parameter(resized_grid(original.pos_embed.detach(), *grid))
    original.patch_embed.image_size = (16 * grid[0], 16 * grid[1])
    reference = deepcopy(original)
    ours = Encoder(original)
    width = ours.blocks[0].width
    for block in ours.blocks:
        block.adapters = adapters(width)
    randomise(ours, 0.25 * width**-0.5)  # as loud at any width: rounding grows with what is rounded
    for layer, block in zip(reference.layers, ours.blocks, strict=True):
        hook(layer, deepcopy(block.adapters))
    reference.load_state_dict(ours.state_dict())
    return ours, reference.double()


def check_equal(ours: Encoder, reference: SamVisionEncoder, grid: Grid, batch: int = 1) -> None:
    """Outputs and the gradient of every parameter and pixel."""
    draw = torch.Generator().manual_seed(3)
    pixels = torch.randn(batch, 3, 16 * grid[0], 16 * grid[1], generator=draw)
    x, y = pixels.clone().requires_grad_(), pixels.double().requires_grad_()
    found, expected = ours(x), reference(y).last_hidden_state
    assert relative(found, expected) <= BOUND
    weight = torch.randn(expected.shape, generator=draw)
    (found * weight).sum().backward()
    (expected * weight.double()).sum().backward()
    assert relative(x.grad, y.grad) <= BOUND
    theirs = dict(reference.named_parameters())
    assert {name for name, _ in ours.named_parameters()} == set(theirs)
    for name, parameter in ours.named_parameters():
        assert theirs[name].grad.norm() > 0, name
        assert relative(parameter.grad, theirs[name].grad) <= BOUND, name


@pytest.mark.parametrize("grid", [(8, 8), (16, 16), (28, 14), (9, 20)], ids=str)
def test_equal_with_every_gradient(grid: Grid) -> None:
    """Grids of 128 and 256 px, one of whole windows only, one that is not square."""
    check_equal(*encoders(grid), grid)


def test_equal_the_way_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """There what fills a window up asks as well; on this machine's processor."""
    strips = attention._strips
    monkeypatch.setattr(attention, "_strips", lambda length, window, _: strips(length, window, False))
    check_equal(*encoders((9, 20)), (9, 20))


def test_a_batch_is_its_images() -> None:
    """Windows of one image never see another's."""
    check_equal(*encoders((9, 20)), (9, 20), batch=3)


@pytest.mark.slow
@pytest.mark.parametrize("grid", [(32, 32), (64, 64), (40, 64)], ids=str)
def test_equal_at_512_and_1024_pixels(grid: Grid) -> None:
    check_equal(*encoders(grid, num_attention_heads=1), grid)


VIT_B: dict[str, object] = {"hidden_size": 768, "num_attention_heads": 12, "mlp_dim": 3072, "output_channels": 256}


@pytest.mark.slow
def test_equal_at_the_real_depth_and_width() -> None:
    """ViT-B whole, at 256 px."""
    depth: dict[str, object] = {"num_hidden_layers": 12, "global_attn_indexes": [2, 5, 8, 11]}
    check_equal(*encoders((16, 16), **VIT_B, **depth), (16, 16))


@pytest.mark.slow
def test_equal_at_512_pixels_and_the_real_width() -> None:
    """Two blocks of ViT-B, one of each kind."""
    check_equal(*encoders((32, 32), **VIT_B), (32, 32))
