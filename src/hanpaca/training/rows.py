"""How new rows move: each by itself, or both rows of a piece together.

A new piece has a row where it is read and one where it is predicted. Moved by the same updates,
what is learned of the one counts for the other, and a model can copy a piece that it has read: it
compares what it reads with what it may write. Most of what a head reads lies along one direction
(70 % of the energy of SmolLM2's), and a step of Adam along each of the coordinates has a large part
along it, for pieces too that were not seen. Along the principal axes of what is read that part is
one coordinate of many. They are the axes of Shampoo and SOAP (Gupta et al. 2018, arXiv 1802.09568;
Vyas et al. 2024, arXiv 2409.11321) for the head, taken once.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hanpaca.data.pack import Blocks
from hanpaca.model.load import CausalLM
from hanpaca.model.loss import last_hidden

AXES = "axes"
"""In a parameter group: (hidden, hidden), the axes as rows."""
_BLOCKS = 64
"""Of a training, that the axes are measured on."""


class RowAdamW(torch.optim.AdamW):
    """AdamW where all weights of a group with axes get one update, of their gradients' sum."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # noqa: ANN401  # as torch's own
        """One step of all groups."""
        kept: list[tuple[list[nn.Parameter], list[Tensor], Tensor]] = []
        for group in self.param_groups:
            if AXES not in group:
                continue
            axes_dd: Tensor = group[AXES]
            rows: list[nn.Parameter] = group["params"]
            gradients = [one.grad for one in rows if one.grad is not None]
            moved_nd = torch.stack(gradients).sum(dim=0) @ axes_dd.t()
            decayed = 1 - group["lr"] * group["weight_decay"]
            kept.append((rows, [one * decayed for one in rows], axes_dd))
            for one in rows:
                one.grad = moved_nd.clone()
                one.zero_()
        found = super().step(closure)
        for rows, before, axes_dd in kept:
            update_nd = rows[0] @ axes_dd  # of all of them: their gradients were always the same
            for one, before_nd in zip(rows, before, strict=True):
                one.copy_(before_nd + update_nd)
        return found


@torch.inference_mode()
def principal_axes(model: CausalLM, blocks: Blocks) -> Tensor:
    """Eigenvectors of the second moment of what the head reads: (hidden, hidden), longest first.

    Args:
        model: Before it is trained.
        blocks: What it will be trained on; the first are read.
    """
    device = model.lm_head.weight.device
    moment_dd = torch.zeros(())
    for number in range(min(_BLOCKS, len(blocks.input_ids))):
        ids_bt, places_bt = (
            torch.from_numpy(np.asarray(column[number]).astype(np.int64))[None].to(device)
            for column in (blocks.input_ids, blocks.position_ids)
        )
        states_td = last_hidden(model, ids_bt, places_bt)[0].double().cpu()
        moment_dd = moment_dd + states_td.t() @ states_td
    vectors_dd: Tensor = torch.linalg.eigh(moment_dd).eigenvectors
    return vectors_dd.flip(1).t().float().contiguous().to(device)
