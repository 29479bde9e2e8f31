"""The loss of training, without ever holding the scores of all tokens.

A head of 50,000 pieces makes 200 MB of float32 scores of 1,024 tokens, written and read five times
on the way to a gradient. Here a few tokens at a time are scored, and their gradient is taken at
once: it is the softmax minus one at the label. Tokens without a label are not scored at all, which
in instruction tuning are most.
"""

from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from hanpaca.model.attention import flattened
from hanpaca.model.layers import SplitHead
from hanpaca.model.load import CausalLM
from hanpaca.model.whole import master

NO_LABEL = -100
CHUNK_TOKENS = 128
"""Tokens scored at once: of 32 to 511, the fastest on two cores."""


class NextTokenLoss(nn.Module):
    """A causal language model as its mean loss per label, in nats."""

    accepts_loss_kwargs = True
    """Tells transformers.Trainer to give `num_items_in_batch`."""

    def __init__(self, model: CausalLM) -> None:
        super().__init__()
        self.model = model

    def _apply(self, fn: Any, recurse: bool = True) -> Self:  # noqa: ANN401  # as torch's own
        """Where all is moved to a device, a table that embedding and head share stays one."""
        embedding, head = self.model.model.embed_tokens, self.model.lm_head
        tables = [one._buffers.get("weight") for one in (embedding, head)]
        pointers = {one.data_ptr() for one in tables if one is not None}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if None not in tables and len(pointers) == 1:
            head.weight = embedding.weight
        return self

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        position_ids: Tensor | None = None,
        num_items_in_batch: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Score each label by the tokens before it.

        Args:
            input_ids: (batch, tokens).
            labels: (batch, tokens): the id to predict at this place from what stands before it,
                or -100 for none.
            position_ids: (batch, tokens): starts at 0 with every packed document.
            num_items_in_batch: How many labels the sum is divided by: those of a whole step, of
                which this batch may be a part. None takes those of this batch.

        Returns:
            `loss`, as transformers.Trainer wants it.
        """
        hidden_btd = last_hidden(self.model, input_ids, position_ids)
        next_bt = labels[:, 1:]
        labelled_bt = next_bt != NO_LABEL
        hidden_td = hidden_btd[:, :-1][labelled_bt]
        labels_t = next_bt[labelled_bt]
        old_vd, new_nd = _parts(cast(nn.Linear | SplitHead, self.model.lm_head))
        return {"loss": head_loss(hidden_td, old_vd, new_nd, labels_t, num_items_in_batch)}


def _parts(head: nn.Linear | SplitHead) -> tuple[Tensor, Tensor | None]:
    """Frozen rows of a head in the type it computes in, and the trained ones after them."""
    if isinstance(head, SplitHead):
        return head.weight, head.new_rows
    if (rows_vd := master(head)) is not None:
        return head.weight.detach()[:0], rows_vd
    return head.weight, None


def last_hidden(model: CausalLM, input_ids: Tensor, position_ids: Tensor | None) -> Tensor:
    """What the head reads, (batch, tokens, hidden), of packed blocks.

    Args:
        model: Of any attention.
        input_ids: (batch, tokens).
        position_ids: (batch, tokens): starts at 0 with every packed document.
    """
    shape = (1, -1) if flattened(model) else input_ids.shape
    given = {"input_ids": input_ids.reshape(shape)}
    if position_ids is not None:
        given["position_ids"] = position_ids.reshape(shape)
    hidden_btd: Tensor = model.model(**given, use_cache=False).last_hidden_state
    return hidden_btd.view(*input_ids.shape, -1)


def head_loss(
    hidden_td: Tensor,
    old_vd: Tensor,
    new_nd: Tensor | None,
    labels_t: Tensor,
    number: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy in nats of a frozen head whose last rows may be trainable.

    Args:
        hidden_td: (tokens, hidden): what the head reads.
        old_vd: (old pieces, hidden): gets no gradient; there may be none.
        new_nd: (new pieces, hidden), float32, or None.
        labels_t: (tokens,): ids; those of new pieces follow the old ones.
        number: (): what the sum is divided by, where it is not 0. None takes the tokens.
    """
    if number is None:
        number = torch.tensor(len(hidden_td))
    loss: Tensor = _HeadLoss.apply(  # type: ignore[no-untyped-call]
        hidden_td, old_vd, new_nd, labels_t, number
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
        number: Tensor,
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
        num_labels = number.clamp(min=1)
        context.save_for_backward(grad_hidden_td.div_(num_labels), grad_rows_nd.div_(num_labels))
        return total / num_labels

    @staticmethod
    def backward(
        context: Any,  # noqa: ANN401
        grad_loss: Tensor,
    ) -> tuple[Tensor, None, Tensor | None, None, None]:
        grad_hidden_td, grad_rows_nd = context.saved_tensors
        grad_rows = grad_loss * grad_rows_nd if context.needs_input_grad[2] else None
        return grad_loss * grad_hidden_td, None, grad_rows, None, None
