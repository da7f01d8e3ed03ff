"""What a site's noised updates tell of its images, together: epsilon at a delta.

One update, clipped to norm C, with noise of deviation z C on every number, is a Gaussian mechanism. Which images a site
has can move what it sends by 2C at most, from one end of the ball of radius C to the other, whatever is changed: one
patient, or all of them. So the sensitivity is 2C, and the noise is z / 2 sensitivities wide.

    neighbours   two sites with the same number of images, any of which may differ (replace)
    together     updates with z_1 ... z_T tell what one tells with z, 1 / z^2 = sum_t 1 / z_t^2
    epsilon      the least with  Phi(m / 2 - epsilon / m) - e^epsilon Phi(-m / 2 - epsilon / m) <= delta,   m = 2 / z

Balle & Wang 2018, 1805.06530, theorem 8. The composition is exact, and holds where an update depends on those before it
(Dong et al. 2019, 1905.02383). No round draws at random who takes part, so nothing is gained from that.

Why replace, and not add-or-remove, which halves m: that would compare the site's update with none at all (sensitivity
C), but who takes part, and with how many images, the server knows. What a site wants to know is what its images tell,
the site being there. This number is the larger one, and it covers a patient as it covers a whole site.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from math import inf, sqrt

from sammit.errors import UserError


def need_accountant() -> None:
    """Raise UserError where the library that counts is not installed."""
    if find_spec("dp_accounting") is None:
        raise UserError("noise needs dp-accounting, which is not installed: pip install 'sammit[flare]'")


def epsilon(multipliers: Sequence[float], delta: float) -> float:
    """Epsilon of all updates together, 0 or more; 0 for none.

    Args:
        multipliers: z of each update that was sent, above 0.
        delta: above 0 and below 1.

    Raises:
        UserError: the library that counts is not installed.
    """
    need_accountant()
    from dp_accounting.gaussian_mechanism import get_epsilon_gaussian

    together = sum(1 / z**2 for z in multipliers)
    return float(get_epsilon_gaussian(1 / sqrt(together) / 2 if together else inf, delta))
