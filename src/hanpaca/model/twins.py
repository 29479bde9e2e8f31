"""New pieces that start as English words: their twins.

A row that is made of parts of other rows is one that the base has never seen, and its heads that
copy what a text had before do not know it: a new piece that a document has had costs as much as one
that it has not, for hundreds of steps (docs/log.md). A row of the base's own works from the first
step on. So each new piece gets the rows of one English word, a different one, and where a
dictionary has one, a word that translates it.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from hanpaca.data.translations import Translations
from hanpaca.errors import DataError
from hanpaca.model.fit import SpelledText
from hanpaca.model.load import CausalLM

_WORD_STARTS = ("\u0120", "\u2581")
"""What a token of a whole word begins with, in byte-level and in SentencePiece vocabularies."""
_HALF = "\ufffd"
"""In the text of a piece that begins or ends within a character."""
_LEAST_LETTERS = 4
"""Of a word that stands in for a translation: shorter ones are mostly parts of others."""
_MOST_GLOSSES, _MOST_OF_A_CHARACTER = 6, 3
_NATS_IN_OLD_TEXT = 8.0
"""By which a piece is less likely than its twin in the old language."""
_RIDGE = 1e-3
_ROUNDS = 8
_MOST_NATS = 3.0
"""That a round of calibration shifts a row by."""
_MOST_STATES = 4_096


def twin_ids(
    pieces: Sequence[str], translations: Translations, vocabulary: Mapping[str, int]
) -> list[int]:
    """For each piece the id of an English word of its own.

    Translations come first, of the piece and then of its characters; a sign that is another form of
    one of the base's (`；` of `;`) gets that one. A piece that has none, or whose translations are
    taken, gets a word that means something else. Where there are more pieces than words, words are
    used again.

    Args:
        pieces: Texts of the new pieces; those that come first choose first.
        translations: Of words and characters.
        vocabulary: The base's tokens and their ids.

    Raises:
        DataError: The base has no English words, or the dictionary none of the pieces.
    """
    words = {
        token[1:]: number
        for token, number in sorted(vocabulary.items(), key=lambda item: item[1])
        if token[:1] in _WORD_STARTS and token.isprintable() and _is_word(token[1:])
    }
    others = [number for word, number in words.items() if len(word) >= _LEAST_LETTERS]
    if not others:
        raise DataError("twins are English words, and the base's vocabulary has none")
    # The rarer half first: a word that means something else should not be one that is needed.
    spare = iter(others[len(others) // 2 :] + others[: len(others) // 2])
    taken: Counter[int] = Counter()
    twins, num_translated = [], 0
    for piece in pieces:
        wanted = [words[word] for word in _wanted(piece, translations, words)]
        plain = unicodedata.normalize("NFKC", piece)
        # Not `é`: in byte-level vocabularies that is the name of a byte.
        if plain.isascii() and plain in vocabulary:
            wanted.insert(0, vocabulary[plain])
        num_translated += bool(wanted)
        free = next((one for one in chain(wanted, spare) if not taken[one]), None)
        if free is None:
            free = min(wanted or others, key=lambda one: taken[one])
        taken[free] += 1
        twins.append(free)
    if not num_translated:
        whole = next((piece for piece in pieces if _HALF not in piece), pieces[0])
        raise DataError(
            f"the dictionary has none of the new pieces, such as {whole!r}, nor one of their "
            "characters",
            "is {dictionary} of this language?",
        )
    return twins


def _is_word(text: str) -> bool:
    return text.isascii() and text.isalpha() and text.islower()


def _wanted(piece: str, translations: Translations, words: Mapping[str, int]) -> Iterator[str]:
    """English words for a piece, the best first."""
    glosses = sorted(translations.get(piece, ())[:_MOST_GLOSSES], key=lambda one: one.count(" "))
    if len(piece) > 1:
        for character in piece:
            glosses += translations.get(character, ())[:_MOST_OF_A_CHARACTER]
    yield from (gloss for gloss in glosses if gloss in words)
    for gloss in glosses:
        yield from (word for word in reversed(gloss.split()) if word in words)


def language_directions(new_td: Tensor, old_td: Tensor) -> tuple[Tensor, Tensor]:
    """What to add to a head row for a logit higher by one in one language and by 0 in the other.

    Ridge regression on what the head reads, with a thousandth of its mean square.

    Args:
        new_td: Hidden states over the new language, (tokens, hidden).
        old_td: Over the old one.

    Returns:
        (hidden,) for the new language, and for the old.
    """
    moment_dd = (new_td.t() @ new_td / len(new_td) + old_td.t() @ old_td / len(old_td)).double()
    moment_dd += torch.eye(len(moment_dd)) * moment_dd.diagonal().mean() * _RIDGE
    means = torch.stack([new_td.mean(dim=0), old_td.mean(dim=0)], dim=1).double()
    found = torch.linalg.solve(moment_dd, means).float()
    return found[:, 0].clone(), found[:, 1].clone()


@torch.no_grad()
def twin_head_rows(
    model: CausalLM,
    twins: Sequence[int],
    *,
    num_old: int,
    texts: Sequence[SpelledText],
    old_texts: Sequence[Sequence[int]],
    shares_n: Tensor,
) -> Tensor:
    """Head rows of the twins, shifted to how frequent the pieces are: (new pieces, hidden).

    In the new language a piece is as probable as it is frequent; in the old one it is less probable
    than its twin by a factor of e^8, so that the old language keeps its words.

    Args:
        model: The base, frozen.
        twins: Ids of the English words.
        num_old: Tokens of the base's vocabulary.
        texts: Of the new language, in both vocabularies.
        old_texts: Of the old language, in ids with their start token.
        shares_n: Share of each piece in all tokens of the new language, above 0.
    """
    head_vd = model.lm_head.weight.detach()[:num_old].float()
    new_td, read_td = _states_before_pieces(model, texts)
    old_td = torch.cat([hidden_states(model, ids) for ids in old_texts])
    raised_d, old_d = language_directions(new_td, old_td)
    rows_nd: Tensor = head_vd[list(twins)] - _NATS_IN_OLD_TEXT * old_d
    read_td = read_td[:: max(1, len(read_td) // _MOST_STATES)]
    old_t = torch.logsumexp(read_td @ head_vd.t(), dim=1)
    for _ in range(_ROUNDS):
        scores_tn = read_td @ rows_nd.t()
        total_t = torch.logaddexp(old_t, torch.logsumexp(scores_tn, dim=1))
        given_n = (scores_tn - total_t[:, None]).exp().mean(dim=0)
        shift_n1 = (shares_n / given_n).log().clamp(-_MOST_NATS, _MOST_NATS)[:, None]
        rows_nd = rows_nd + shift_n1 * raised_d
    return rows_nd


def _states_before_pieces(model: CausalLM, texts: Sequence[SpelledText]) -> tuple[Tensor, Tensor]:
    """What the head reads over the spelled-out texts, and that of it which a new token follows."""
    read, before = [], []
    for text in texts:
        states_td = hidden_states(model, text.base_ids)
        read.append(states_td)
        before.append(states_td[list(text.ends)][:-1])
    return torch.cat(read), torch.cat(before)


@torch.inference_mode()
def hidden_states(model: CausalLM, ids: Sequence[int]) -> Tensor:
    """What the head reads over a text: (tokens, hidden), float32."""
    states_td: Tensor = model.model(input_ids=torch.tensor([list(ids)]), use_cache=False)[0][0]
    return states_td.float()


def piece_texts(tokenizer: PreTrainedTokenizerFast, first_id: int) -> list[str]:
    """What each piece from an id on writes, without spaces around."""
    return [str(tokenizer.decode([number])).strip() for number in range(first_id, len(tokenizer))]
