"""Each site trains alone; nothing is shared. The floor that a federation must beat.

w_k^{t+1} = local training from w_k^t,     all w_k^0 equal
"""

from __future__ import annotations

from typing import ClassVar

from sammit.methods import base
from sammit.methods.base import Judged, Which

PAPER = "baseline"
TRAVELS = "nothing"
STAYS = "every trained tensor"


class Options(base.Options):
    """No options."""


class Method(base.Method):
    """Shares no name."""

    judged: ClassVar[tuple[Which, ...]] = ("personal",)
    reported: ClassVar[Which] = "personal"
    unseen: ClassVar[tuple[Judged, ...]] = ("sources",)
    unseen_rule: ClassVar[str] = "the mean score of the source sites' own models"

    def shares(self, name: str) -> bool:
        """No tensor travels."""
        return False
