"""Translations: near one of two references, nothing left of the source, neither cut nor padded."""

from collections import Counter
from collections.abc import Sequence

import regex

_ORDER, _BETA = 6, 2
_ENOUGH = {"han": (25.0, 14.0), "latin": (45.0, 40.0)}
"""chrF for strict and for loose. Characters of Chinese say more each, so fewer need to agree."""
_LEFT_OVER = 0.2
_SHORTEST, _LONGEST = 0.5, 2.0
_LABEL = regex.compile(
    r"^\W*(?:翻译|译文|中文|英文|(?:the )?(?:chinese |english )?translation(?: is)?)"
    r"(?:如下|是|为)?\s*[:：]\s*",
    regex.IGNORECASE,
)
_QUOTES = "\"'“”‘’「」* "
_HAN, _LATIN = regex.compile(r"\p{Han}"), regex.compile(r"\p{Latin}")


def translates(text: str, references: Sequence[str]) -> tuple[bool, bool, float]:
    """Whether an answer is a good translation, whether it holds one, and its best chrF.

    Strict looks at the whole answer; loose at its best line without a label such as "译文：",
    with a lower bound.
    """
    kind = "han" if _HAN.search(references[0]) else "latin"
    strictly, loosely = _ENOUGH[kind]
    whole = text.strip()
    lines = [_LABEL.sub("", one).strip(_QUOTES) for one in whole.splitlines() if one.strip()]
    strict = _good(whole, references, kind, strictly, 0.0)
    loose = any(_good(one, references, kind, loosely, _LEFT_OVER) for one in lines)
    score = max((chrf(one, other) for one in (whole, *lines) for other in references), default=0.0)
    return strict, strict or loose, score


def chrf(text: str, reference: str) -> float:
    """Character n-gram F-score of a translation, from 0 to 100 (Popović 2015).

    N-grams of 1 to 6 characters without white space, averaged over the lengths that both texts
    have, recall counting twice: the numbers of sacreBLEU's sentence chrF.

    >>> round(chrf("the cat", "the cat sat"), 2)
    61.05
    """
    text, reference = "".join(text.split()), "".join(reference.split())
    precisions, recalls = [], []
    for size in range(1, _ORDER + 1):
        found, wanted = _grams(text, size), _grams(reference, size)
        if found and wanted:
            same = (found & wanted).total()
            precisions.append(same / found.total())
            recalls.append(same / wanted.total())
    if not any(precisions):
        return 0.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    factor = _BETA**2
    return 100 * (1 + factor) * precision * recall / (factor * precision + recall)


def _grams(text: str, size: int) -> Counter[str]:
    return Counter(text[start : start + size] for start in range(len(text) - size + 1))


def _good(text: str, references: Sequence[str], kind: str, enough: float, left_over: float) -> bool:
    num_han, num_latin = len(_HAN.findall(text)), len(_LATIN.findall(text))
    wrong = num_latin if kind == "han" else num_han
    if wrong > left_over * (num_han + num_latin):
        return False
    return any(
        chrf(text, one) >= enough and _SHORTEST <= len(text) / len(one) <= _LONGEST
        for one in references
    )
