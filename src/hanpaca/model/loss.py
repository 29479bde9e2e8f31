"""The loss of training, without ever holding the scores of all tokens.

A head of 50,000 pieces makes 200 MB of float32 scores of 1,024 tokens, written and read five times
on the way to a gradient. Here a few tokens at a time are scored, and their gradient is taken at
once: it is the softmax minus one at the label. Tokens without a label are not scored at all, which
in instruction tuning are most.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from hanpaca.model.layers import SplitHead
from hanpaca.model.load import CausalLM

NO_LABEL = -100
CHUNK_TOKENS = 128
"""Tokens scored at once: of 32 to 511, the fastest on two cores."""


class NextTokenLoss(nn.Module):
    """A causal language model as its mean loss per label, in nats."""

    def __init__(self, model: CausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, labels: Tensor, position_ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Score each label by the tokens before it.

        Args:
            input_ids: (batch, tokens).
            labels: (batch, tokens): the id to predict at this place from what stands before it,
                or -100 for none.
            position_ids: (batch, tokens): starts at 0 with every packed document.

        Returns:
            `loss`, as transformers.Trainer wants it.
        """
        hidden_btd = self.model.model(
            input_ids=input_ids, position_ids=position_ids, use_cache=False
        ).last_hidden_state
        next_bt = labels[:, 1:]
        labelled_bt = next_bt != NO_LABEL
        hidden_td = hidden_btd[:, :-1][labelled_bt]
        head = cast(nn.Linear | SplitHead, self.model.lm_head)
        rows = head.new_rows if isinstance(head, SplitHead) else None
        return {"loss": head_loss(hidden_td, head.weight, rows, next_bt[labelled_bt])}


def head_loss(hidden_td: Tensor, old_vd: Tensor, new_nd: Tensor | None, labels_t: Tensor) -> Tensor:
    """Mean cross-entropy in nats of a frozen head whose last rows may be trainable.

    Args:
        hidden_td: (tokens, hidden): what the head reads.
        old_vd: (old pieces, hidden): gets no gradient.
        new_nd: (new pieces, hidden), float32, or None.
        labels_t: (tokens,): ids; those of new pieces follow the old ones.
    """
    loss: Tensor = _HeadLoss.apply(  # type: ignore[no-untyped-call]
        hidden_td, old_vd, new_nd, labels_t
    )
    return loss


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,  # noqa: ANN401  # torch types it so
        hidden_td: Tensor,
        old_vd: Tensor,
        new_nd: Tensor | None,
        labels_t: Tensor,
    ) -> Tensor:
        num_old = len(old_vd)
        rows_nd = old_vd[:0] if new_nd is None else new_nd.to(old_vd.dtype)
        grad_hidden_td = torch.empty_like(hidden_td)
        grad_rows_nd = torch.zeros_like(rows_nd, dtype=torch.float32)
        total = hidden_td.new_zeros((), dtype=torch.float32)
        # Made once and written over: fresh memory for each chunk costs more than the sums in it.
        shape = min(CHUNK_TOKENS, len(hidden_td)), num_old + len(rows_nd)
        scores = hidden_td.new_empty(shape)
        probabilities = scores if scores.dtype == torch.float32 else scores.float()
        for start in range(0, len(hidden_td), CHUNK_TOKENS):
            chunk = slice(start, start + CHUNK_TOKENS)
            hidden_cd, labels_c1 = hidden_td[chunk], labels_t[chunk, None]
            scores_cv, softmax_cv = scores[: len(hidden_cd)], probabilities[: len(hidden_cd)]
            torch.mm(hidden_cd, old_vd.t(), out=scores_cv[:, :num_old])
            torch.mm(hidden_cd, rows_nd.t(), out=scores_cv[:, num_old:])
            softmax_cv.copy_(scores_cv)
            softmax_cv -= softmax_cv.amax(dim=1, keepdim=True)
            total -= softmax_cv.gather(1, labels_c1).sum()
            sum_c1 = softmax_cv.exp_().sum(dim=1, keepdim=True)
            total += sum_c1.log().sum()
            softmax_cv /= sum_c1
            softmax_cv.scatter_add_(1, labels_c1, -torch.ones_like(labels_c1, dtype=torch.float32))
            scores_cv.copy_(softmax_cv)
            old_cv, new_cn = scores_cv[:, :num_old], scores_cv[:, num_old:]
            grad_hidden_td[chunk] = (old_cv @ old_vd).addmm_(new_cn, rows_nd)
            grad_rows_nd += new_cn.t() @ hidden_cd
        num_labels = max(len(hidden_td), 1)
        context.save_for_backward(grad_hidden_td.div_(num_labels), grad_rows_nd.div_(num_labels))
        return total / num_labels

    @staticmethod
    def backward(
        context: Any,  # noqa: ANN401
        grad_loss: Tensor,
    ) -> tuple[Tensor, None, Tensor | None, None]:
        grad_hidden_td, grad_rows_nd = context.saved_tensors
        grad_rows = grad_loss * grad_rows_nd if context.needs_input_grad[2] else None
        return grad_loss * grad_hidden_td, None, grad_rows, None
