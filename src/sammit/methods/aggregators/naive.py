"""Naive mean of low-rank factors: A and B each by itself; every run reports what it is wrong by.

    B = sum_k p_k B_k,   A = sum_k p_k A_k,     error = ||sum_k p_k B_k A_k - B A||_F / ||sum_k p_k B_k A_k||_F

FedIT (Zhang et al., 2305.05644) and most federated low-rank tuning do this. The error is the covariance of B_k and A_k
over the sites; it is zero where all B_k, or all A_k, agree. `rounds.jsonl` has it as `lora_error`.
"""

from __future__ import annotations

from collections.abc import Sequence

from sammit.methods.aggregators import base
from sammit.vocabulary import AnyState

PAPER = "FedIT (Zhang et al. 2023, 2305.05644)"
TRAVELS = "both factors of every pair"
STAYS = "nothing"
EXACT = "no, the error is reported each round"

Options = base.Options


class Aggregator(base.Aggregator):
    """The default rule; where no low-rank factors travel it is the plain mean, which any method may have."""

    def check(self, shared: AnyState, sites: Sequence[str]) -> None:
        """Nothing to merge is no mistake."""
