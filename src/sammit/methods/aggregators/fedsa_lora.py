"""FedSA-LoRA: both factors are trained, A is shared, B stays at its site; every site has a model of its own.

    A = sum_k p_k A_k,     site k uses  W_0 + s B_k A

Guo et al., 2410.01463, who find that A learns what sites have in common and B what they do not. Nothing is merged in
the weights, so no error of merging is defined. The global model has B as it was at the start, which is zero: all that
is shared, without the low-rank update. The paper has no site that takes no part; here it is judged with the mean of
the sites' B, and beside it with the global model. Under a method of two stages A is trained in that of the shared
part, B in that of the site's own.
"""

from __future__ import annotations

from typing import ClassVar

from sammit.methods.aggregators import base
from sammit.methods.aggregators.factors import is_up

PAPER = "Guo et al. 2024 (2410.01463)"
TRAVELS = "the factors A"
STAYS = "the factors B"
EXACT = "does not apply: B is not merged"

Options = base.Options


class Aggregator(base.Aggregator):
    """Shares no B."""

    personalises: ClassVar[bool] = True

    def shares(self, name: str) -> bool:
        """All but the factors B."""
        return not is_up(name)

    def notes(self) -> tuple[str, ...]:
        """What the global model lacks."""
        return ("Low-rank factors B stayed at their sites: the global model has none of the low-rank updates.",)
