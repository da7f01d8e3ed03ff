"""What pFedSAM's stages minimise, by hand on tiny tensors."""

from __future__ import annotations

from math import cos, pi, sqrt
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sammit.methods.pfedsam_objectives import blocks_with_both, kd_weight, overlap

A, V, D = "x.adapters.lora.q_down.weight", "x.adapters.lora.v_down.weight", "x.adapters.mixture.down"
numbers = st.lists(st.floats(-10, 10), min_size=6, max_size=6)


def state(a: Any, v: Any, d: Any) -> dict[str, Tensor]:
    """Factors of two rows altogether; the experts' D as (E, r, D)."""
    return {A: torch.tensor(a), V: torch.tensor(v), D: torch.tensor(d)}


# lambda


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (0.0, 0.0),
        (0.05, 0.25),
        (0.1, 0.5),
        (0.55, 0.5 * 0.6),  # half-way down: the mean of 1 and 1/5
        (0.4, 0.5 * (0.2 + 0.4 * (1 + cos(pi / 3)))),
        (1.0, 0.1),
    ],
)
def test_lambda_by_hand(progress: float, expected: float) -> None:
    assert kd_weight(0.5, progress) == pytest.approx(expected)
    assert kd_weight(0.5, progress, "constant") == 0.5


@given(st.floats(0, 1), st.floats(0, 1))
def test_lambda_rises_then_falls_to_a_fifth(first: float, second: float) -> None:
    early, late = sorted((first, second))
    if late < 0.1:
        assert kd_weight(1, early) <= kd_weight(1, late)
    elif early >= 0.1:
        assert 1 >= kd_weight(1, early) >= kd_weight(1, late) >= 0.2 - 1e-12


# Orthogonality


def test_one_row_each_is_a_squared_cosine() -> None:
    """(1, 0) and (1, 1): cos^2 = 1/2; a factor of zeros has no direction to add."""
    found = overlap(state([[1.0, 0.0]], [[0.0, 0.0]], [[[1.0, 1.0]]]), [([A, V], D)])
    assert float(found) == pytest.approx(0.5)


def test_the_gradient_by_hand() -> None:
    """d of (a.d)^2 / (|a|^2 |d|^2) is 2 (a.d) a / (|a|^2 |d|^2) - 2 (a.d)^2 d / (|a|^2 |d|^4) = (1, 0) - (1/2, 1/2)."""
    tensors = state([[1.0, 0.0]], [[0.0, 0.0]], [[[1.0, 1.0]]])
    experts = tensors[D].requires_grad_()
    overlap(tensors, [([A, V], D)]).backward()  # type: ignore[no-untyped-call]
    assert experts.grad is not None and torch.allclose(experts.grad, torch.tensor([[[0.5, -0.5]]]))


def test_several_rows_by_hand() -> None:
    """A = (1,0,0), (0,2,0): 5; two experts' D = (3,0,0), (0,0,1): 10; A D^T has one number, 3: 9 / 50."""
    tensors = state([[1.0, 0.0, 0.0]], [[0.0, 2.0, 0.0]], [[[3.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]]])
    assert float(overlap(tensors, [([A, V], D)])) == pytest.approx(9 / 50)


def test_blocks_count_alike() -> None:
    """The mean over blocks, whatever the size of their tensors: of 1 and of 0."""
    tensors = state([[1.0, 0.0]], [[7.0, 0.0]], [[[100.0, 0.0]]]) | {"d": torch.tensor([[[0.0, 5.0]]])}
    assert float(overlap(tensors, [([A, V], D), ([A, V], "d")])) == pytest.approx(0.5)


@given(numbers, numbers, numbers, st.floats(0.1, 10), st.floats(0.1, 10))
def test_it_is_a_share_and_knows_no_scale(
    a: list[float], v: list[float], d: list[float], first: float, second: float
) -> None:
    """Within [0, 1], however long the rows are; nothing where all are zero."""
    tensors = {name: torch.tensor(rows).double().view(2, 3) for name, rows in ((A, a), (V, v), (D, d))}
    tensors[D] = tensors[D].unsqueeze(0)
    found = float(overlap(tensors, [([A, V], D)]))
    assert 0 <= found <= 1 + 1e-9
    if min(float(tensors[A].norm() + tensors[V].norm()), float(tensors[D].norm())) > 1e-3:
        scaled = {A: first * tensors[A], V: first * tensors[V], D: second * tensors[D]}
        assert float(overlap(scaled, [([A, V], D)])) == pytest.approx(found, rel=1e-6, abs=1e-12)


def test_orthogonal_rows_overlap_in_nothing() -> None:
    rows = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)))[0]
    tensors = {A: rows[:2], V: rows[2:4], D: rows[4:].unsqueeze(0)}
    assert float(overlap(tensors, [([A, V], D)])) == pytest.approx(0, abs=1e-12)
    assert sqrt(float(overlap({**tensors, D: rows[:1].unsqueeze(0)}, [([A, V], D)]))) == pytest.approx(0.5)


def test_only_blocks_that_have_both_are_compared() -> None:
    """And of them the shared factors A of the encoder: no B, no second adapter, no block whose number begins so."""
    block = "vision_encoder.layers.{}.adapters.{}".format
    names = [
        *(block(1, f"lora.{f}.weight") for f in ("q_down", "q_up", "v_down", "v_up")),
        *(block(1, f"mixture.{part}") for part in ("down", "up", "gate.weight")),
        block(1, "own_lora.q_down.weight"),
        block(2, "lora.q_down.weight"),
        block(3, "mixture.down"),
        block(11, "mixture.down"),
        "mask_decoder.transformer.layers.0.self_attn.adapters.lora.q_down.weight",
    ]
    factors = [block(1, "lora.q_down.weight"), block(1, "lora.v_down.weight")]
    assert blocks_with_both(names) == [(factors, block(1, "mixture.down"))]
