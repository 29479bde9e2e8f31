"""The loss of direct preference optimization: to say the better of two answers more readily.

Rafailov et al. 2023 (arXiv 2305.18290), equation 7: with π the model in training and ρ the one it
started from, chosen answer c and rejected answer r to a prompt,
-log σ(β · ((log π(c) - log π(r)) - (log ρ(c) - log ρ(r)))).
"""

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hanpaca.model.load import CausalLM
from hanpaca.model.loss import CHUNK_TOKENS, NO_LABEL, NextTokenLoss, last_hidden
from hanpaca.together import num_processes


class PreferenceLoss(NextTokenLoss):
    """A causal language model as its mean loss per pair of answers."""

    def __init__(self, model: CausalLM, *, beta: float) -> None:
        super().__init__(model)
        self.beta = beta
        self.sums = torch.zeros(3, dtype=torch.float64)
        """Pairs since `measures` was asked, their margins, and how many of these are above 0."""

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        position_ids: Tensor | None = None,
        num_items_in_batch: Tensor | None = None,
        answers: Tensor | None = None,
        reference: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Score both answers of each pair, or without answers the next tokens.

        Args:
            input_ids: (batch, tokens): chosen and rejected sequences in turn, as `pack_pairs` lays
                them out.
            labels: (batch, pairs): -100 where a block has no such pair.
            position_ids: (batch, tokens): starts at 0 with every sequence.
            num_items_in_batch: How many pairs the sum is divided by, those of a whole step; None
                takes those of this batch.
            answers: (batch, tokens): the id to predict where an answer is, else -100.
            reference: (batch, pairs): `log_ratios` of the model before training.

        Returns:
            `loss`, as transformers.Trainer wants it.
        """
        if answers is None or reference is None or position_ids is None:  # proof.py asks so
            return super().forward(input_ids, labels, position_ids, num_items_in_batch)
        ratios_bp = log_ratios(self.model, input_ids, answers, position_ids, labels.shape[1])
        margins_p = self.beta * (ratios_bp - reference)[labels != NO_LABEL]
        told = margins_p.detach().double()
        self.sums += (
            torch.stack([torch.ones_like(told), told, (told > 0).double()]).sum(dim=1).cpu()
        )
        number = margins_p.numel() if num_items_in_batch is None else num_items_in_batch
        divisor = torch.as_tensor(number, device=margins_p.device).clamp(min=1)
        return {"loss": -F.logsigmoid(margins_p).sum() / divisor}

    def measures(self) -> Mapping[str, float]:
        """What was seen since it was last asked, by all processes: mean margin, and accuracy.

        The margin is β times how much more the chosen answer has gained over the rejected one, in
        nats; accuracy is the share of the pairs in which it is above 0.
        """
        sums, self.sums = self.sums, torch.zeros_like(self.sums)
        if num_processes() > 1:
            device = next(self.model.parameters()).device
            shared = sums.to(device)
            torch.distributed.all_reduce(shared)
            sums = shared.cpu()
        number, margin, right = sums.tolist()
        return {"pairs": number, "margin": margin / number, "accuracy": right / number}


def log_ratios(
    model: CausalLM, input_ids: Tensor, answers: Tensor, position_ids: Tensor, num_pairs: int
) -> Tensor:
    """Log-probability of each chosen answer less that of the rejected one, in nats.

    Args:
        model: Of any attention.
        input_ids: As in `PreferenceLoss.forward`, like the next two.
        answers: (batch, tokens).
        position_ids: (batch, tokens).
        num_pairs: The most pairs that a block has.

    Returns:
        (batch, pairs), float32; 0 where a block has no such pair.
    """
    hidden_btd = last_hidden(model, input_ids, position_ids)
    next_bt = answers[:, 1:]
    labelled_bt = next_bt != NO_LABEL
    sequence_bt = (position_ids == 0).cumsum(dim=1)[:, 1:] - 1
    block_bt = torch.arange(len(answers), device=answers.device)[:, None].expand_as(sequence_bt)
    sequence_t = sequence_bt[labelled_bt]
    pair_t = block_bt[labelled_bt] * num_pairs + sequence_t // 2
    nats_t = _log_probabilities(
        cast(nn.Module, model.lm_head), hidden_btd[:, :-1][labelled_bt], next_bt[labelled_bt]
    )
    ratios_p = nats_t.new_zeros(len(answers) * num_pairs)
    return ratios_p.index_add(0, pair_t, nats_t * (1 - 2 * (sequence_t % 2))).view(-1, num_pairs)


def _log_probabilities(head: nn.Module, hidden_td: Tensor, labels_t: Tensor) -> Tensor:
    """Of each label, without ever holding the scores of all tokens: they are made twice."""
    parts: list[Tensor] = []
    for start in range(0, len(hidden_td), CHUNK_TOKENS):
        chunk = slice(start, start + CHUNK_TOKENS)
        score = checkpoint(_scored, head, hidden_td[chunk], labels_t[chunk], use_reentrant=False)
        parts.append(cast(Tensor, score))
    return torch.cat(parts)


def _scored(head: nn.Module, hidden_cd: Tensor, labels_c: Tensor) -> Tensor:
    scores_cv = cast(Tensor, head(hidden_cd)).float()
    return scores_cv.gather(1, labels_c[:, None]).squeeze(1) - scores_cv.logsumexp(dim=1)
