"""Sites with random factors: what each sends, and the weight updates that they stand for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from sammit.vocabulary import State

PLACES = ("vision_encoder.layers.0.adapters.lora.q", "mask_decoder.layers.1.adapters.lora.v")
HEAD = "mask_decoder.head.weight"
UPS = tuple(f"{place}_up.weight" for place in PLACES)


@dataclass(frozen=True)
class Sites:
    """K sites with pairs of one rank in two places, and another tensor.

    Attributes:
        states: what each site has after its round.
        weights: of each in the mean; they need not sum to one.
        widths: (out, in) of each place.
        rank: of every pair.
    """

    states: list[State]
    weights: list[float]
    widths: tuple[tuple[int, int], ...]
    rank: int

    @property
    def updates(self) -> list[tuple[State, float]]:
        return list(zip(self.states, self.weights, strict=True))

    @property
    def shares(self) -> list[float]:
        """p_k."""
        return [weight / sum(self.weights) for weight in self.weights]

    def wanted(self, place: int) -> Tensor:
        """(out, in) float64 sum_k p_k B_k A_k, added up one site after another."""
        out, given = self.widths[place]
        total = torch.zeros(out, given, dtype=torch.float64)
        for state, share in zip(self.states, self.shares, strict=True):
            total += share * update_of(state, place)
        return total


def update_of(state: State, place: int) -> Tensor:
    """(out, in) float64: entry (i, j) is the sum over r of B[i, r] A[r, j]; with what the server holds, where it does."""
    up, down = state[UPS[place]], state[f"{PLACES[place]}_down.weight"]
    rest = state.get(f"{PLACES[place]}_rest", torch.zeros(len(up), down.shape[1]))
    return torch.einsum("ir,rj->ij", up.double(), down.double()) + rest.double()


def random_state(
    widths: tuple[tuple[int, int], ...], rank: int, seed: int, used: int = 0, plain: bool = True
) -> State:
    """Factors of which only the first `used` rows and columns are not zero (0: all); with a plain tensor beside."""
    draw = torch.Generator().manual_seed(seed)
    state: State = {HEAD: torch.randn(3, generator=draw)} if plain else {}
    for place, (out, given) in zip(PLACES, widths, strict=True):
        state[f"{place}_up.weight"] = torch.randn(out, rank, generator=draw)
        state[f"{place}_down.weight"] = torch.randn(rank, given, generator=draw)
        if used:
            state[f"{place}_up.weight"][:, used:] = 0
            state[f"{place}_down.weight"][used:] = 0
    return state


@st.composite
def sites(draw: st.DrawFn) -> Sites:
    """One to four sites, widths that differ, any rank up to the smaller width."""
    widths = tuple((draw(st.integers(2, 9)), draw(st.integers(2, 9))) for _ in PLACES)
    rank = draw(st.integers(1, min(min(pair) for pair in widths)))
    count, seed = draw(st.integers(1, 4)), draw(st.integers(0, 10**6))
    weights = draw(st.lists(st.integers(1, 500), min_size=count, max_size=count))
    return Sites([random_state(widths, rank, seed + k) for k in range(count)], [float(w) for w in weights], widths, rank)


def relative(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over that of what is expected."""
    return float((found - expected).norm() / expected.norm().clamp_min(1e-30))
