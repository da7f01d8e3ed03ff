"""All sites' data in one place: one pooled site under the same loop. What a federation would like to reach.

The pooled site takes as many steps in a round as all sites together would.
"""

from __future__ import annotations

from typing import ClassVar

from sammit.methods import base

PAPER = "baseline"
TRAVELS = "every image, which is why hospitals cannot do it"
STAYS = "nothing"


class Options(base.Options):
    """No options."""


class Method(base.Method):
    """Federated averaging over one pooled site."""

    pooled: ClassVar[bool] = True
