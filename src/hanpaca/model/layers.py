"""The layers that learn: LoRA beside a frozen matrix, new rows beside the old ones.

Frozen weights stay in the model's dtype (bfloat16 in training) and no autocast is used. What
learns is float32 for the optimizer and is cast down where it is used.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hanpaca.model.quantized import Bits, QuantizedWeight


class _LowRankUpdate(torch.autograd.Function):
    """x Wᵀ + scale · (x Aᵀ) Bᵀ, where only A, B and x get gradients.

    Autograd by itself multiplies every output by the scale and adds two outputs and two input
    gradients in passes of their own; here both are part of the matrix products.
    """

    @staticmethod
    def forward(
        context: Any,  # noqa: ANN401  # torch types it so
        x_ti: Tensor,
        weight_oi: Tensor,
        a_ri: Tensor,
        b_or: Tensor,
        scale: float,
    ) -> Tensor:
        inner_tr = x_ti @ a_ri.t()
        context.save_for_backward(x_ti, inner_tr, weight_oi, a_ri, b_or)
        context.scale = scale
        return (x_ti @ weight_oi.t()).addmm_(inner_tr, b_or.t(), alpha=scale)

    @staticmethod
    def backward(
        context: Any,  # noqa: ANN401
        grad_to: Tensor,
    ) -> tuple[Tensor, None, Tensor, Tensor, None]:
        x_ti, inner_tr, weight_oi, a_ri, b_or = context.saved_tensors
        grad_inner_tr = (grad_to @ b_or).mul_(context.scale)
        grad_x_ti = (grad_to @ weight_oi).addmm_(grad_inner_tr, a_ri)
        grad_b_or = (grad_to.t() @ inner_tr).mul_(context.scale)
        return grad_x_ti, None, grad_inner_tr.t() @ x_ti, grad_b_or, None


class LoraLinear(nn.Module):
    """A frozen linear layer with a trainable update of low rank.

    Adds alpha / rank · B A to the weight (Hu et al. 2021, arXiv 2106.09685), or with rsLoRA
    alpha / √rank · B A (arXiv 2312.03732); A starts as in the paper's code and in peft, B at zero.
    With DoRA the rows of the sum are then given trained lengths, which start as the weight's own.
    """

    def __init__(
        self,
        linear: nn.Linear,
        *,
        rank: int,
        alpha: float,
        dropout: float,
        rank_stabilized: bool = False,
        scales_rows: bool = False,
        bits: Bits = "none",
    ) -> None:
        super().__init__()
        self.dtype = linear.weight.dtype
        weight = linear.weight.detach()
        self.quantized = None if bits == "none" else QuantizedWeight(weight, bits)
        """The frozen matrix, in place of `weight`, where it is kept in few bits."""
        self.register_buffer("weight", None if self.quantized else weight, persistent=False)
        self.register_buffer(
            "bias", None if linear.bias is None else linear.bias.detach(), persistent=False
        )
        self.weight: Tensor
        self.bias: Tensor | None
        self.lora_A = nn.Parameter(torch.empty(rank, linear.in_features))
        self.lora_B = nn.Parameter(torch.zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.lengths = nn.Parameter(self.weight.float().norm(dim=1)) if scales_rows else None
        """(out,): DoRA's magnitudes."""
        self.alpha = alpha
        self.rank_stabilized = rank_stabilized
        self.dropout = dropout

    @property
    def scale(self) -> float:
        """What B A is multiplied by."""
        rank = len(self.lora_A)
        return self.alpha / (math.sqrt(rank) if self.rank_stabilized else rank)

    def forward(self, x: Tensor) -> Tensor:
        """Apply: (..., in) -> (..., out)."""
        dtype, scale = self.dtype, self.scale
        a_ri, b_or = self.lora_A.to(dtype), self.lora_B.to(dtype)
        if self.lengths is not None:
            y = self._scaled(x, a_ri, b_or, self.lengths)
        elif self.quantized or (self.dropout and self.training):
            dropped = F.dropout(x, self.dropout, self.training) if self.dropout else x
            frozen = self.quantized(x) if self.quantized else F.linear(x, self.weight)
            y = frozen + F.linear(F.linear(dropped, a_ri), b_or) * scale
        else:
            x_ti = x.reshape(-1, x.shape[-1])
            y_to = _LowRankUpdate.apply(x_ti, self.weight, a_ri, b_or, scale)  # type: ignore[no-untyped-call]
            y = y_to.view(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias

    def _scaled(self, x: Tensor, a_ri: Tensor, b_or: Tensor, lengths_o: Tensor) -> Tensor:
        """DoRA (arXiv 2402.09353): the length of W + B A gets no gradient (its section 4.3).

        With dropout, as in peft, what is dropped is left out of all but the frozen output.
        """
        sum_oi = self.weight.float() + self.scale * (self.lora_B.detach() @ self.lora_A.detach())
        factor_o = (lengths_o / sum_oi.norm(dim=1)).to(x.dtype)
        frozen = F.linear(x, self.weight)
        dropped = F.dropout(x, self.dropout, self.training) if self.dropout else x
        seen = F.linear(dropped, self.weight) if dropped is not x else frozen
        update = F.linear(F.linear(dropped, a_ri), b_or) * self.scale
        y: Tensor = frozen + (factor_o - 1) * seen + factor_o * update
        return y


def add_noise(embedding: nn.Module, alpha: float) -> None:
    """Disturb what an embedding gives while it trains (NEFTune, arXiv 2310.05914), in place.

    Each number is moved by at most alpha / √(tokens · width) of its sequence.
    """

    def disturbed(module: nn.Module, _: object, rows_btd: Tensor) -> Tensor:
        if not module.training:
            return rows_btd
        most = alpha / math.sqrt(rows_btd.shape[1] * rows_btd.shape[2])
        return rows_btd + torch.zeros_like(rows_btd).uniform_(-most, most)

    embedding.register_forward_hook(disturbed)


class SplitEmbedding(nn.Module):
    """An embedding whose last rows are a trainable matrix of their own.

    So the old rows are neither copied nor differentiated.
    """

    def __init__(self, weight_vd: Tensor, new_rows_nd: nn.Parameter) -> None:
        super().__init__()
        self.register_buffer("weight", weight_vd, persistent=False)
        self.weight: Tensor
        self.new_rows = new_rows_nd

    def forward(self, ids_bt: Tensor) -> Tensor:
        """Look up rows: (batch, tokens) -> (batch, tokens, hidden)."""
        num_old = self.weight.shape[0]
        old_btd = F.embedding(ids_bt.clamp(max=num_old - 1), self.weight)
        rows_nd = self.new_rows.to(self.weight.dtype)
        new_btd = F.embedding((ids_bt - num_old).clamp(min=0), rows_nd)
        return torch.where((ids_bt >= num_old).unsqueeze(-1), new_btd, old_btd)


class SplitHead(nn.Module):
    """A head whose last rows are a trainable matrix of their own."""

    def __init__(self, weight_vd: Tensor, new_rows_nd: nn.Parameter) -> None:
        super().__init__()
        self.register_buffer("weight", weight_vd, persistent=False)
        self.weight: Tensor
        self.new_rows = new_rows_nd

    def forward(self, hidden_btd: Tensor) -> Tensor:
        """Score every piece: (batch, tokens, hidden) -> (batch, tokens, vocabulary)."""
        old_btv = F.linear(hidden_btd, self.weight)
        new_btn = F.linear(hidden_btd, self.new_rows.to(self.weight.dtype))
        return torch.cat([old_btv, new_btn], dim=-1)
