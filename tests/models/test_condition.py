"""The channel attention that knows the site: its equation, its start, and that the code matters."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor

from models.conftest import randomise, relative
from sammit.errors import UserError
from sammit.models.adapters.condition import Adapter, Options
from sammit.models.sam import PromptFreeSam

Make = Callable[..., PromptFreeSam]
WIDTH = 12


def tokens() -> Tensor:
    return torch.randn(2, 3, 4, WIDTH, generator=torch.Generator().manual_seed(6))


def adapter(**options: int) -> Adapter:
    made = Adapter(WIDTH, Options(**{"code": 5, "reduction": 4, **options}))
    randomise(made, 0.5)
    return made


def test_the_equation() -> None:
    """y = a * 2 sigmoid(U relu(D [mean, e]) + U relu(D [max, e])), image by image."""
    made, a = adapter(), tokens()
    assert made.down.weight.shape == (3, WIDTH + 5)
    for image, found in zip(a, a + made.after_attention(a), strict=True):
        pooled = (image.mean((0, 1)), image.amax((0, 1)))
        z = sum(made.up.weight @ (made.down.weight @ torch.cat([part, made.code])).relu() for part in pooled)
        assert relative(found, image * 2 * torch.sigmoid(z)) <= 1e-6  # type: ignore[arg-type]


def test_it_is_the_base_model_at_first_and_a_code_changes_it(tiny: Make) -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    model = tiny(adapter=("condition",))
    with torch.no_grad():
        assert torch.equal(model(images), tiny()(images))
        for block in model.vision_encoder.blocks:
            randomise(block.adapters["condition"], 0.5)
        before = model(images)
        model.vision_encoder.blocks[0].adapters["condition"].code.add_(1.0)  # type: ignore[operator, union-attr]
        assert relative(model(images), before) > 1e-4


def test_a_model_in_use_can_be_copied(tiny: Make) -> None:
    model = tiny(adapter=("condition",))
    model(torch.rand(1, 3, 64, 64))
    assert deepcopy(model).vision_encoder.blocks[0].adapters["condition"].pooled is None


@pytest.mark.parametrize("options", [{"code": 0}, {"reduction": 0}, {"reduction": WIDTH + 1}])
def test_options_that_cannot_be_right(options: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"model\.condition: code must be at least 1"):
        adapter(**options)
