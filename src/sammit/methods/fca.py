"""FCA, in the style of: adapters whose units agree with the mean follow it, the others stay the site's own.

A unit u is an output neuron of an adapter: a row of its matrix, with its entry of the bias. A site that last received
w and sent theta_k compares, when the mean w' comes back, where it went with where the mean went:

    s_u = cos( theta_k,u - w_u,  w'_u - w_u )                                 computed at the site, told to nobody
    binary   m_u = 1 where s_u >= the quantile of s that leaves `common` of the units above it, else 0
    smooth   m_u = sigmoid( (s_u - mean s) / (temperature std s) )
    own      v_k,u = m_u w'_u + (1 - m_u) theta_k,u

Each round starts from v_k and all trained tensors are sent and averaged by n_k; what is no adapter, the decoder above
all, follows the mean. v_k of the last mean is the site's own model.

Hu et al., 2504.18020. Known are the abstract and summaries: adapters of a frozen foundation model are split into
common units, which are updated globally, and individual ones, by a binary (BFU) or a smooth (SFU) rule. The measure
of agreement, the threshold and where they are computed are choices made here; no number can be compared with theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from sammit.errors import UserError
from sammit.methods import base
from sammit.methods.base import Outcome, Which, Work
from sammit.methods.state import difference, select, take, with_prefix, without_prefix
from sammit.vocabulary import AnyState, Declared, State, is_adapter

PAPER = "Hu et al. 2025 (FCA, 2504.18020), in the style of"
TRAVELS = "every trained tensor, adapters and decoder"
STAYS = "which units are common, and the site's own values of the others"


@dataclass(frozen=True)
class Options(base.Options):
    """`[method]` of fca."""

    rule: Literal["binary", "smooth"] = "binary"  # a unit is common or not, or is weighed
    common: float = 0.5  # binary: share of the units that follow the mean
    temperature: float = 1.0  # smooth: in standard deviations of the agreement

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        if not 0 < self.common <= 1 or not self.temperature > 0:
            raise UserError("method: common must be above 0 and at most 1, temperature above 0")


class Method(base.Method):
    """A site's half; the server's is federated averaging."""

    judged: ClassVar[tuple[Which, ...]] = ("global", "personal")
    reported: ClassVar[Which] = "personal"
    site_state: ClassVar[tuple[Declared, ...]] = (
        *base.Method.site_state,
        Declared("sent.", None, "float32", "the adapters as this site last sent them"),
        Declared("received.", None, "float32", "the adapters that it had been sent before"),
    )
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()

    def train(self, work: Work) -> Outcome:
        """A round of plain training; the worker has put the site's own mix into the model."""
        names = [name for name in self.shared_names(work.live) if is_adapter(name)]
        if not names:
            raise UserError("model.adapter: fca works on adapters, the recipe trains none; add 'bottleneck' or 'lora'")
        done = super().train(work)
        private = {
            **done.private,
            **with_prefix("sent", take(work.model, names)),
            **with_prefix("received", select(work.order.tensors, set(names).__contains__)),
        }
        return Outcome(private, done.extras, done.metrics)

    def starts_as_sent(self, name: str) -> bool:
        """All but the adapters, which start from v_k."""
        return not is_adapter(name)

    def personal(self, private: State, shared: AnyState) -> State:
        """v_k; before the site's first round the mean itself."""
        sent, received = without_prefix("sent", private), without_prefix("received", private)
        return {**super().personal(private, shared), **self.mixed(sent, received, shared)}

    def mixed(self, sent: State, received: State, mean: AnyState) -> State:
        """v_k by name, from theta_k, w and w'; the names are those of `sent`."""
        own, start, now = (dict(units(select(state, sent.__contains__))) for state in (sent, received, mean))
        went, mean_went = difference(own, start), difference(now, start)
        agreement = {name: cosine_similarity(went[name], mean_went[name], dim=-1) for name in own}
        if not agreement:
            return {}
        shares = torch.cat([values.flatten() for values in agreement.values()])
        result = dict(select(mean, sent.__contains__))
        for name, values in agreement.items():
            share = self.share(values, shares)
            for part in (name, bias_of(name)):
                if part in sent:
                    weight = share.reshape(share.shape + (1,) * (sent[part].ndim - share.ndim))
                    result[part] = weight * mean[part] + (1 - weight) * sent[part]
        return result

    def share(self, agreement: Tensor, everywhere: Tensor) -> Tensor:
        """m of some units from their agreement and that of all (N) units; in [0, 1], as `agreement`."""
        if self.options.rule == "binary":
            return (agreement >= everywhere.quantile(1 - self.options.common)).float()
        spread = everywhere.std(correction=0).clamp_min(1e-6)
        return ((agreement - everywhere.mean()) / (self.options.temperature * spread)).sigmoid()

    def notes(self) -> tuple[str, ...]:
        """That this is no reproduction."""
        return ("This FCA is in the style of the paper, whose formulas were not available.",)


def units(state: State) -> Iterator[tuple[str, Tensor]]:
    """(name of a matrix, (..., out, in + 1)): each row with its bias; matrices without a bias have rows of `in`."""
    for name, tensor in state.items():
        if tensor.ndim < 2:
            continue
        bias = state.get(bias_of(name))
        yield name, tensor if bias is None else torch.cat([tensor, bias.unsqueeze(-1)], dim=-1)


def bias_of(name: str) -> str:
    """The name of the bias beside a layer's weight."""
    return f"{name.rpartition('.')[0]}.bias"
