"""Where the rows of new pieces start, by the recipe: what the base stage and the bake-off share."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from hanpaca.data.translations import Translations
from hanpaca.errors import DataError
from hanpaca.model.fit import SpelledText, fit_input_rows, fit_output_rows, spell_out
from hanpaca.model.load import CausalLM, start_token
from hanpaca.model.new_rows import (
    Spelling,
    first_piece_rows,
    log_rest_given_first,
    mean_hidden_state,
    mean_of_all_rows,
    mean_rows,
    normal_rows,
    rescaled,
)
from hanpaca.model.twins import piece_texts, twin_head_rows, twin_ids
from hanpaca.settings import RowsSettings

_COUNTED_TEXTS = 5_000
_AVERAGED_TEXTS = 100
_AVERAGED_CHARACTERS = 2_000  # of each
_FITTED_TOKENS = 512  # of a text, in new tokens
_READ_TEXTS = 150  # of each language, to tell the two apart


@dataclass(frozen=True)
class Growth:
    """A base and what it is to be grown by."""

    model: CausalLM
    """The base, frozen; not changed."""
    old: PreTrainedTokenizerFast
    new: PreTrainedTokenizerFast
    spellings: Sequence[Spelling]
    """Base tokens of each new piece."""
    texts: Sequence[str]
    """Of the new language."""
    seed: int
    old_texts: Sequence[str] = ()
    """Of the old language; only twins are kept out of it."""
    translations: Translations = field(default_factory=dict)
    """Of pieces into English, for twins."""

    @property
    def tied(self) -> bool:
        """Whether the base has one table for input and output."""
        return bool(self.model.config.tie_word_embeddings)


def start_rows(growth: Growth, settings: RowsSettings) -> tuple[Tensor, Tensor | None]:
    """Embedding rows and head rows of the new pieces: (new pieces, hidden) each, float32.

    The head rows are None where one table serves both.
    """
    torch.manual_seed(growth.seed)
    if not growth.spellings:
        return torch.empty(0, growth.model.config.hidden_size), None
    untied = not growth.tied or settings.untie
    input_rows = _input_rows(growth, settings)
    output_rows = _output_rows(growth, settings) if untied else None
    if settings.fit_input_steps or settings.fit_output_passes:
        texts = _spelled_texts(growth, settings.fit_documents)
        if settings.fit_input_steps:
            input_rows = fit_input_rows(
                growth.model, input_rows, texts, num_steps=settings.fit_input_steps
            )
        if output_rows is not None and settings.fit_output_passes:
            output_rows = fit_output_rows(
                growth.model, output_rows, texts, num_passes=settings.fit_output_passes
            )
    return input_rows, output_rows


def _input_rows(growth: Growth, settings: RowsSettings) -> Tensor:
    table_vd = growth.model.model.embed_tokens.weight.detach()[: len(growth.old)]
    if settings.input == "twin":
        twins_nd: Tensor = table_vd[_twins(growth)].float()
        return twins_nd
    rows = _plain_rows(table_vd, growth, settings.input)
    return rescaled(rows, table_vd) if settings.rescale else rows


def _output_rows(growth: Growth, settings: RowsSettings) -> Tensor:
    head_vd = growth.model.lm_head.weight.detach()[: len(growth.old)]
    if settings.output == "first_piece":
        return _first_piece_rows(growth, head_vd, settings.first_piece_nats)
    if settings.output == "twin":
        return _twin_head_rows(growth)
    rows = _plain_rows(head_vd, growth, settings.output)
    return rescaled(rows, head_vd) if settings.rescale else rows


def _plain_rows(matrix_vd: Tensor, growth: Growth, method: str) -> Tensor:
    match method:
        case "mean":
            return mean_rows(matrix_vd, growth.spellings)
        case "mean_of_all":
            return mean_of_all_rows(matrix_vd, len(growth.spellings))
        case _:
            return normal_rows(matrix_vd, len(growth.spellings), seed=growth.seed)


def _first_piece_rows(growth: Growth, head_vd: Tensor, nats: float) -> Tensor:
    texts = list(growth.texts[:_COUNTED_TEXTS])
    base_counts = Counter(i for ids in _encoded(growth.old, texts) for i in ids)
    counts = Counter(i for ids in _encoded(growth.new, texts) for i in ids)
    first = len(growth.old)
    start = start_token(growth.old)
    opening = [text[:_AVERAGED_CHARACTERS] for text in texts[:_AVERAGED_TEXTS]]
    sample = _encoded(growth.old, opening)
    return first_piece_rows(
        head_vd,
        growth.spellings,
        log_rest=log_rest_given_first(
            growth.spellings,
            [counts[first + number] for number in range(len(growth.spellings))],
            base_counts,
        ),
        mean_hidden_d=mean_hidden_state(growth.model, [[start, *ids] for ids in sample]),
        nats=nats,
    )


def _twins(growth: Growth) -> list[int]:
    pieces = piece_texts(growth.new, len(growth.old))
    return twin_ids(pieces, growth.translations, growth.old.get_vocab())


def _twin_head_rows(growth: Growth) -> Tensor:
    if not growth.old_texts:
        raise DataError(
            "there is no text of the old language, which twins have to be kept out of",
            "give some as {replay}",
        )
    first, start = len(growth.old), start_token(growth.old)
    counts = Counter(
        i for ids in _encoded(growth.new, list(growth.texts[:_COUNTED_TEXTS])) for i in ids
    )
    shares_n = torch.tensor([counts[first + n] + 0.5 for n in range(len(growth.spellings))])
    old_texts = [text[:_AVERAGED_CHARACTERS] for text in growth.old_texts[:_READ_TEXTS]]
    return twin_head_rows(
        growth.model,
        _twins(growth),
        num_old=first,
        texts=_spelled_texts(growth, _READ_TEXTS),
        old_texts=[[start, *ids] for ids in _encoded(growth.old, old_texts)],
        shares_n=shares_n / sum(counts.values()),
    )


def _spelled_texts(growth: Growth, num_documents: int) -> list[SpelledText]:
    start = start_token(growth.new)
    limit = min(growth.model.config.max_position_embeddings // 4, _FITTED_TOKENS)
    return [
        spell_out([start, *ids[:limit]], growth.spellings, first_id=len(growth.old))
        for ids in _encoded(growth.new, list(growth.texts[:num_documents]))
    ]


def _encoded(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    found: list[list[int]] = tokenizer(texts, add_special_tokens=False).input_ids
    return found
