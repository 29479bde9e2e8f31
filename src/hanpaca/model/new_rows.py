"""Where the embedding and head rows of new pieces start.

A new piece stands for the base tokens that spelled it (its *spelling*). An input row starts as the
mean of their rows. An output row may do better than that: the model predicted the spelling
token by token, so the logit of the new piece should be that of its first token plus the
log-probability of the rest. The base has no output bias, but the mean final hidden state of
the target language is close to a constant direction (63 % of the energy on SmolLM2), so a
multiple of it acts as one.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from hanpaca.model.load import CausalLM

Spelling = Sequence[int]


def mean_rows(matrix_vd: Tensor, spellings: Sequence[Spelling]) -> Tensor:
    """Mean of the spelling's rows: (new pieces, hidden), float32.

    The convex-hull start of Mundra et al. 2024 (arXiv 2407.05841).
    """
    rows = [matrix_vd[list(ids)].float().mean(dim=0) for ids in spellings]
    return torch.stack(rows) if rows else torch.empty(0, matrix_vd.shape[1])


def mean_of_all_rows(matrix_vd: Tensor, num_rows: int) -> Tensor:
    """The mean of all rows, again and again: (new pieces, hidden), float32.

    Bounds how far the old probabilities move (Hewitt 2021, "Initializing New Word Embeddings for
    Pretrained Language Models").
    """
    return matrix_vd.float().mean(dim=0).expand(num_rows, -1).clone()


def normal_rows(matrix_vd: Tensor, num_rows: int, *, seed: int) -> Tensor:
    """Draws from the normal distribution with the matrix's mean and covariance (Hewitt 2021).

    Returns:
        (new pieces, hidden), float32; the same for the same seed.
    """
    matrix_vd = matrix_vd.float()
    mean_d = matrix_vd.mean(dim=0)
    centred_vd = matrix_vd - mean_d
    # With B = centred / sqrt(V), a draw B' z has covariance B' B: no decomposition is needed.
    noise_nv = torch.randn(num_rows, len(matrix_vd), generator=torch.Generator().manual_seed(seed))
    rows_nd: Tensor = mean_d + noise_nv @ centred_vd / len(matrix_vd) ** 0.5
    return rows_nd


def rescaled(rows_nd: Tensor, matrix_vd: Tensor) -> Tensor:
    """Give every row the median length of the matrix's rows; averages are shorter than their parts.

    Returns:
        (new pieces, hidden), float32.
    """
    median = matrix_vd.float().norm(dim=1).median()
    scale_n1: Tensor = median / rows_nd.norm(dim=1, keepdim=True).clamp(min=1e-9)
    return rows_nd * scale_n1


def first_piece_rows(
    matrix_vd: Tensor,
    spellings: Sequence[Spelling],
    *,
    log_rest: Sequence[float],
    mean_hidden_d: Tensor,
    nats: float,
) -> Tensor:
    """First token's head row, moved along the mean hidden state: (new pieces, hidden), float32.

    On a hidden state equal to the mean, the logit is that of the first token plus
    `log_rest + nats`.

    Args:
        matrix_vd: The base's head, (vocabulary, hidden).
        spellings: Base tokens of each new piece.
        log_rest: log p(rest of the spelling | its first token) in the target text, in nats.
        mean_hidden_d: Mean final hidden state over target-language text.
        nats: Added to every new logit: the new piece also takes the probability that its
            spelling had in contexts where the first token alone was unlikely.
    """
    first_nd = torch.stack([matrix_vd[ids[0]].float() for ids in spellings])
    mean_d = mean_hidden_d.float()
    direction_d = mean_d / mean_d.square().sum()
    shift_n1 = torch.tensor(log_rest, dtype=torch.float32).add(nats).unsqueeze(1)
    return first_nd + shift_n1 * direction_d


def log_rest_given_first(
    spellings: Sequence[Spelling],
    piece_counts: Sequence[int],
    base_counts: Mapping[int, int],
) -> list[float]:
    """Log p(rest of the spelling | its first token), from counts on the target text, in nats.

    Args:
        spellings: Base tokens of each new piece.
        piece_counts: How often each new piece occurs with the extended tokenizer.
        base_counts: How often each base token occurs with the base tokenizer.
    """
    smoothed = [
        (count + 0.5) / (base_counts.get(ids[0], 0) + 1.0)
        for ids, count in zip(spellings, piece_counts, strict=True)
    ]
    return torch.tensor(smoothed).clamp(max=1.0).log().tolist()


@torch.inference_mode()
def mean_hidden_state(model: CausalLM, sequences: Iterable[Sequence[int]]) -> Tensor:
    """Mean over all tokens of the hidden state the head reads: (hidden,), float32."""
    total_d = torch.zeros(model.config.hidden_size)
    num_tokens = 0
    for ids in sequences:
        hidden_td = model.model(input_ids=torch.tensor([list(ids)]), use_cache=False)[0][0]
        total_d += hidden_td.float().sum(dim=0)
        num_tokens += hidden_td.shape[0]
    return total_d / max(num_tokens, 1)


def grow_model(
    model: CausalLM, folder: Path, *, num_old: int, input_rows: Tensor, output_rows: Tensor | None
) -> None:
    """Write the model with its new rows as a Hugging Face folder; every old row stays as it is.

    Args:
        model: Changed in place: give a freshly loaded one.
        folder: Gets config and safetensors; the tokenizer is the caller's to write.
        num_old: Rows to keep, the size of the base tokenizer; padding rows beyond are dropped.
        input_rows: (new pieces, hidden).
        output_rows: (new pieces, hidden); None keeps a tied head tied, and a head of its own as
            it is where there are no new pieces. Given for a tied model, they untie it.
    """
    if output_rows is None and not model.config.tie_word_embeddings:
        output_rows = model.lm_head.weight.detach()[:0]
    embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
    dtype = embedding.dtype
    grown_in = torch.cat([embedding.detach()[:num_old], input_rows.to(dtype)])
    grown_out = None
    if output_rows is not None:
        grown_out = torch.cat([head.detach()[:num_old], output_rows.to(dtype)])
    _set_rows(model, grown_in, grown_out)
    model.save_pretrained(folder)


def keep_rows(model: CausalLM, kept_ids: Sequence[int]) -> None:
    """Keep some rows of the embedding and the head, in the order given.

    Args:
        model: Changed in place; a tied head stays tied.
        kept_ids: Rows to keep, under the numbers that they have.
    """
    chosen = torch.tensor(list(kept_ids))
    head = model.lm_head.weight.detach()[chosen]
    embedding = model.model.embed_tokens.weight.detach()[chosen]
    _set_rows(model, embedding, None if model.config.tie_word_embeddings else head)


def _set_rows(model: CausalLM, input_rows: Tensor, output_rows: Tensor | None) -> None:
    """Give a model other tables; without output rows the head is the embedding."""
    embedding = torch.nn.Embedding(len(input_rows), input_rows.shape[1], _weight=input_rows)
    head = torch.nn.Linear(1, 1, bias=False, dtype=input_rows.dtype)
    head.weight = (
        embedding.weight
        if output_rows is None
        else torch.nn.Parameter(output_rows, requires_grad=False)
    )
    model.model.embed_tokens, model.lm_head = embedding, head
    model.config.vocab_size = len(input_rows)
    model.config.tie_word_embeddings = output_rows is None
