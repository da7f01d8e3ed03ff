"""Low frequencies of images: what is told of them and what is put into them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sammit.methods.spectra import half_size, low_amplitudes, restyled


def images(count: int = 2, height: int = 12, width: int = 9, seed: int = 0) -> torch.Tensor:
    """Random pictures far from black and white, so that nothing is clipped by a small change."""
    draw = torch.Generator().manual_seed(seed)
    return 0.4 + 0.2 * torch.rand(count, 3, height, width, generator=draw)


@pytest.mark.parametrize(
    ("band", "shape", "half"),
    [(0.01, (128, 128), 1), (0.01, (512, 384), 3), (0.05, (128, 128), 6), (0.5, (9, 20), 4), (0.01, (1, 1), 0)],
)
def test_half_of_the_square(band: float, shape: tuple[int, int], half: int) -> None:
    """The floor of the share, at least 1, within what the image has."""
    assert half_size(band, shape) == half


@pytest.mark.parametrize("half", [0, 1, 4])
def test_amplitudes_are_numpys_centred_square(half: int) -> None:
    """An independent transform, shifted so that frequency 0 is in the middle."""
    x = images()
    whole = np.abs(np.fft.fftshift(np.fft.fft2(x.numpy()), axes=(-2, -1)))
    rows, columns = (slice(side // 2 - half, side // 2 + half + 1) for side in x.shape[-2:])
    assert low_amplitudes(x, half).numpy() == pytest.approx(whole[..., rows, columns], rel=1e-4)
    assert low_amplitudes(x, half)[..., half, half] == pytest.approx(x.sum((-2, -1)).numpy(), rel=1e-5)


def test_amplitudes_do_not_say_where_anything_is() -> None:
    """A picture that is moved around its edges tells the same."""
    x = images()
    moved = x.roll((5, 3), dims=(-2, -1))
    assert torch.allclose(low_amplitudes(x, 3), low_amplitudes(moved, 3), atol=1e-3)


def test_a_share_of_nothing_changes_nothing() -> None:
    x = images()
    same = restyled(x, low_amplitudes(images(seed=1), 2), torch.zeros(2, 1, 1, 1))
    assert torch.allclose(same, x, atol=1e-6)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_amplitudes_go_over_and_phases_stay(share: float) -> None:
    """Inside the square the mix, outside what was there; every phase as it was."""
    x, other = images(), images(seed=1)
    result = restyled(x, low_amplitudes(other, 2), torch.full((2, 1, 1, 1), share))
    wanted = (1 - share) * low_amplitudes(x, 2) + share * low_amplitudes(other, 2)
    assert torch.allclose(low_amplitudes(result, 2), wanted, atol=1e-3)
    before, after = torch.fft.fft2(x), torch.fft.fft2(result)
    assert torch.allclose((after * before.conj()).angle(), torch.zeros(()), atol=1e-3)
    outside = torch.ones(12, 9, dtype=torch.bool)
    outside[(torch.arange(-2, 3) % 12)[:, None], torch.arange(-2, 3) % 9] = False
    assert torch.allclose(after[..., outside], before[..., outside], atol=1e-4)


def test_each_image_has_its_own_share_and_stays_in_range() -> None:
    """A flat grey picture is all frequency 0: the mix is by hand; what would be too bright is clipped."""
    grey = torch.full((2, 3, 4, 4), 0.25)
    bright = low_amplitudes(torch.full((2, 3, 4, 4), 0.75), 1)
    share = torch.tensor([0.5, 1.0]).reshape(2, 1, 1, 1)
    assert restyled(grey, bright, share)[:, 0, 0, 0].tolist() == pytest.approx([0.5, 0.75])
    assert float(restyled(grey, bright * 9, share).max()) == 1.0
