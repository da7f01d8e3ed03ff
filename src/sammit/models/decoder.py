"""The attention of SAM's mask decoder with places for adapters: transformers' weights and SAM's names.

Only where a recipe adapts the decoder; elsewhere it is transformers' own. In SAM 2's decoder always: there transformers
gave one layer another name.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from sammit.models.adapters.base import with_adapters


class Attention(nn.Module):
    """One attention of the two-way transformer over the modules of a `SamAttention` or `Sam2Attention`, with adapters.

    Attributes:
        width, inner: of what it is given, and of its heads together.
        adapters: by name, in the order they are applied.
    """

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.width: int = original.hidden_size
        self.inner: int = original.internal_dim
        self.heads: int = original.num_attention_heads
        self.q_proj, self.k_proj = original.q_proj, original.k_proj
        self.v_proj = original.v_proj
        self.out_proj = original.o_proj if hasattr(original, "o_proj") else original.out_proj
        self.adapters = nn.ModuleDict()

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attention_similarity: None = None
    ) -> tuple[Tensor, None]:
        """(B, P, n, X) and twice (B, P, m, X) -> (B, P, n, X); None stands for the weights, which nobody reads."""
        q = with_adapters(self.adapters, "to_q", query, self.q_proj(query))
        v = with_adapters(self.adapters, "to_v", value, self.v_proj(value))
        mixed = scaled_dot_product_attention(self._by_head(q), self._by_head(self.k_proj(key)), self._by_head(v))
        return self.out_proj(mixed.transpose(1, 2).reshape(q.shape)), None

    def _by_head(self, tokens: Tensor) -> Tensor:
        """(B, P, n, I) -> (B * P, heads, n, I / heads)."""
        batch, groups, count, _ = tokens.shape
        return tokens.reshape(batch * groups, count, self.heads, -1).transpose(1, 2)


def adaptable_attentions(transformer: nn.Module) -> list[Attention]:
    """Every attention of the two-way transformer, each made ready for adapters if it was not yet."""
    from transformers.models.sam.modeling_sam import SamAttention
    from transformers.models.sam2.modeling_sam2 import Sam2Attention

    for parent in list(transformer.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SamAttention | Sam2Attention):
                setattr(parent, name, Attention(child))
    return [module for module in transformer.modules() if isinstance(module, Attention)]
