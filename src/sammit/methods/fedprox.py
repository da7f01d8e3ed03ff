"""FedProx: federated averaging whose sites are pulled back to the model they were sent.

    w_k^{t+1} = argmin_w F_k(w) + mu / 2 ||w - w^t||^2,     w^{t+1} = sum_k (n_k / n) w_k^{t+1}

Li et al., 1812.06127. The paper lets slow devices solve their problem less exactly; here every site takes all of its
steps, and the pull is what is left of the method. The square is of the norm over all shared tensors together. mu = 0
is federated averaging. Under AdamW the pull is part of the gradient that the moments see, as any other term of the
loss is; with plain SGD it is the paper's.

Where popular code deviates: some repositories leave the term out in the first round (FedBN's does), or average with
equal weights. Here it is the same in every round, and sites count by their samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from sammit.errors import UserError
from sammit.methods import base
from sammit.methods.base import Work
from sammit.methods.proximal import pulled
from sammit.vocabulary import Batch

PAPER = "Li et al. 2020 (1812.06127)"
TRAVELS = "every trained tensor"
STAYS = "nothing but the optimiser's moments, where they are kept"


@dataclass(frozen=True)
class Options(base.Options):
    """`[method]` of fedprox."""

    mu: float = 0.01  # of the pull; the paper tries 0.001 to 1

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        if not self.mu >= 0:
            raise UserError("method.mu: must not be below 0")


class Method(base.Method):
    """Federated averaging with another objective."""

    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()

    def objective(self, work: Work) -> Callable[[Batch], Tensor]:
        """The recipe's loss plus the pull to the shared tensors of the order."""
        received = {name: work.order.tensors[name] for name in self.shared_names(work.live)}
        return pulled(super().objective(work), work.model, received, self.options.mu)
