"""FFA-LoRA: A stays as it was at the common random start, B alone is trained and sent; exact.

    A_k = A for all k and all rounds,     sum_k p_k B_k A = (sum_k p_k B_k) A

Sun et al., 2403.12313. Half the factors' traffic; a site is less free, since its update's row space is that of A from
the first round to the last. With differential privacy it has a second merit: noise on B alone is not multiplied by
noise on A.
"""

from __future__ import annotations

from sammit.methods.aggregators import base
from sammit.methods.aggregators.factors import is_down

PAPER = "Sun et al. 2024 (2403.12313)"
TRAVELS = "the factors B"
STAYS = "the factors A, equal at all sites and never trained"
EXACT = "yes"

Options = base.Options


class Aggregator(base.Aggregator):
    """Trains no A."""

    def trains(self, name: str) -> bool:
        """All but the factors A."""
        return not is_down(name)
