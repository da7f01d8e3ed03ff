"""Federated averaging: what is trained is shared and averaged by the number of training samples.

    w^{t+1} = sum_k (n_k / n) w_k^{t+1},     w_k^{t+1} = local training from w^t

McMahan et al., 1602.05629. FedSAM (train everything) and FedMSA (bottleneck adapters and decoder) of FedFMS are
recipes on it. Deviation from FedFMS's code: weights are n_k / n exactly, not rounded to two decimals.
"""

from __future__ import annotations

from sammit.methods import base

PAPER = "McMahan et al. 2017 (1602.05629); FedFMS 2024 (2403.05408) for FedSAM and FedMSA"
TRAVELS = "every trained tensor"
STAYS = "nothing but the optimiser's moments, where they are kept"


class Options(base.Options):
    """No options."""


class Method(base.Method):
    """Every hook is the default."""
