"""Strong changes: a function of their key, in range, within their bounds, colours and places where they belong."""

from __future__ import annotations

import pytest
import torch

from sammit.learning import jitter
from sammit.learning.jitter import strongly_changed
from sammit.randomness import generator


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, 20, 24, generator=torch.Generator().manual_seed(1))


def test_equal_keys_change_alike_and_each_image_by_itself() -> None:
    same = images(1).expand(3, -1, -1, -1)
    first, again = (strongly_changed(same, generator("k")) for _ in range(2))
    assert torch.equal(first, again) and not torch.equal(first, strongly_changed(same, generator("other")))
    assert not torch.equal(first[0], first[1])
    assert torch.equal(strongly_changed(same[:2], generator("k")), first[:2])
    assert first.min() >= 0 and first.max() <= 1 and first.shape == same.shape


def test_grey_stays_grey_and_colours_change() -> None:
    grey = images()[:, :1].expand(-1, 3, -1, -1)
    changed = strongly_changed(grey, generator("k"))
    assert torch.equal(changed[:, 0], changed[:, 1]) and not torch.equal(changed, grey)
    flat = torch.full((8, 3, 9, 9), 0.3)
    flat[:, 0] = 0.31
    found = strongly_changed(flat, generator("k")).mean(dim=(2, 3))
    assert (found[:, 0] / found[:, 1]).std() > 0.05


@pytest.mark.parametrize("u", [0.0, 0.25, 0.5, 1.0])
def test_the_change_by_hand(u: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without blur: gain (mean + contrast (x - mean) + offset deviations), clipped."""
    monkeypatch.setattr(jitter, "BLUR", 0.0)

    class Fixed:
        def random(self, count: int) -> torch.Tensor:
            return torch.full((count,), u)

    x = images(1)
    expected = x.mean() + 2 ** (2 * u - 1) * (x - x.mean()) + (2 * u - 1) * x[0].std()
    found = strongly_changed(x, Fixed())  # type: ignore[arg-type]
    assert torch.allclose(found, (expected * 1.25 ** (2 * u - 1)).clamp(0, 1), atol=1e-5)


def test_the_blur_is_a_gaussian() -> None:
    """Of a point: it keeps its sum, has the deviation, and nothing moves."""
    point = torch.zeros(3, 21, 21)
    point[:, 10, 10] = 1
    found = jitter._blurred(point, 1.0)
    assert torch.allclose(found.sum((1, 2)), torch.ones(3)) and torch.equal(found, found.transpose(1, 2))
    away = torch.arange(21.0) - 10
    spread = (found[0].sum(0) * away**2).sum()
    assert float(spread) == pytest.approx(1.0, rel=0.05)
    assert float((found[0].sum(0) * away).sum()) == pytest.approx(0, abs=1e-6)
    assert torch.allclose(jitter._blurred(point, 0.0), point)
