"""FlexLoRA: the mean of the products, factorised again by a singular value decomposition; ranks may differ by site.

    sum_k p_k B_k A_k = U S V^T,     B = U_R sqrt(S_R),   A = sqrt(S_R) V_R^T,     site k: the first r_k of the R

Bai et al., 2402.11505. Exact up to the truncation at the model's rank R, which `lora_error` measures; "lora_error.SITE"
is the error of what a site of lower rank goes on from. A site of rank r_k has a model of rank R whose last R - r_k rows
of A and columns of B are zero: their gradients are zero, so they stay zero, and they never travel. The scale alpha / R
is the model's at every site.

The sum is not formed: with the sites' factors side by side, L (out x M) and N (M x in), L = Q_1 T_1, N^T = Q_2 T_2, the
decomposition is that of the small T_1 T_2^T.

Left open by the paper: the split, here the balanced one, as both factors then train at one pace. A direction that the
sum does not use would leave zeros in both factors, which no gradient could ever move; it starts again as low-rank
factors start, with B zero and A the mean of the sites'. The new factors are not those that were trained, so an
optimiser's moments of the old ones are dropped, also with `training.optimiser_state = "keep"`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from sammit.errors import UserError, nearest
from sammit.methods.aggregators import base
from sammit.methods.aggregators.base import measured
from sammit.methods.aggregators.factors import Products, down_of, is_down, is_up, product
from sammit.vocabulary import AnyState, State

PAPER = "Bai et al. 2024 (2402.11505)"
TRAVELS = "both factors of every pair, at the site's own rank"
STAYS = "nothing"
EXACT = "yes, up to the truncation at the model's rank, which is reported each round"


@dataclass(frozen=True)
class Options:
    """`[method.flexlora]`."""

    ranks: dict[str, int] = field(default_factory=dict)  # SITE = rank; a site that is not named has the model's

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        for site, rank in self.ranks.items():
            if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
                raise UserError(f"method.flexlora.ranks.{site}: must be a whole number, 1 or more")


class Aggregator(base.Aggregator):
    """Factorises anew after each round."""

    refactors: ClassVar[bool] = True
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()

    def check(self, shared: AnyState, sites: Sequence[str]) -> None:
        """Also that every rank is of a site there is, and within the model's."""
        super().check(shared, sites)
        highest = max(shared[name].shape[0] for name in shared if is_down(name))
        for site, rank in self.options.ranks.items():
            if site not in sites:
                raise UserError(f"method.flexlora.ranks: there is no site '{site}': {nearest(site, list(sites))}")
            if rank > highest:
                raise UserError(f"method.flexlora.ranks.{site}: {rank} is above the model's rank, {highest}; lower it")

    def notes(self) -> tuple[str, ...]:
        """Which sites had a lower rank, and that the whole model is scored."""
        if not self.options.ranks:
            return ()
        lower = ", ".join(f"{site} {rank}" for site, rank in self.options.ranks.items())
        return (f"Sites trained at ranks of their own ({lower}); scores are those of the server's model of full rank.",)

    def cut(self, tensors: AnyState, site: str) -> AnyState:
        """The first rows of A and columns of B; the same object where a site has the model's rank."""
        rank = self.options.ranks.get(site)
        return tensors if rank is None else {name: _first(name, tensor, rank) for name, tensor in tensors.items()}

    def fill(self, tensors: Mapping[str, Tensor], like: AnyState) -> Mapping[str, Tensor]:
        """Zeros in place of what was cut; the same object where no site has a rank of its own."""
        if not self.options.ranks:
            return tensors
        return {name: _padded(tensor, like[name]) for name, tensor in tensors.items()}

    def merged(self, shared: AnyState, mean: State, products: Products) -> tuple[State, Mapping[str, float]]:
        """The mean of everything but pairs, and each pair's mean product in new factors."""
        new = dict(mean)
        for up in products.names():
            new[up], new[down_of(up)] = balanced(*products.factors(up), mean[down_of(up)])
        metrics = measured("lora_error", products.error(partial(product, new)))
        for site in self.options.ranks:
            metrics |= measured(f"lora_error.{site}", products.error(partial(product, self.cut(new, site))))
        return new, metrics


def balanced(left: Tensor, right: Tensor, old: Tensor) -> tuple[Tensor, Tensor]:
    """B = U sqrt(S) and A = sqrt(S) V^T of the first R singular triples of a product.

    Args:
        left, right: (out, M) and (M, in) float64 factors of the product.
        old: (R, in) whose rows A takes where the product has fewer than R directions; B is zero there.

    Returns:
        (out, R) and (R, in), in the type of `old`.
    """
    q_left, t_left = torch.linalg.qr(left)
    q_right, t_right = torch.linalg.qr(right.T)
    u, s, v = torch.linalg.svd(t_left @ t_right.T, full_matrices=False)
    rank = len(old)
    root = s[:rank].sqrt()
    # Below this a direction is rounding of the sites' float32 numbers.
    used = int((s[:rank] > s[0] * torch.finfo(torch.float32).eps).sum())
    up, down = left.new_zeros(len(left), rank), old.double().clone()
    up[:, :used] = (q_left @ u[:, :used]) * root[:used]
    down[:used] = root[:used, None] * (v[:used] @ q_right.T)
    return up.to(old.dtype), down.to(old.dtype)


def _first(name: str, tensor: Tensor, rank: int) -> Tensor:
    if is_down(name):
        return tensor[:rank]
    return tensor[:, :rank] if is_up(name) else tensor


def _padded(tensor: Tensor, like: Tensor) -> Tensor:
    """The tensor in the upper left corner of zeros in the shape of `like`, or itself if it has that shape."""
    if tensor.shape == like.shape:
        return tensor
    full = tensor.new_zeros(like.shape)
    full[tuple(slice(size) for size in tensor.shape)] = tensor
    return full
