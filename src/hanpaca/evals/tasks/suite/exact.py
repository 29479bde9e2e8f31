"""Answers that are a name or a number."""

import unicodedata
from collections.abc import Sequence

import regex

_FRAME = regex.compile(
    r"^(?:正确答案|答案|回答|答|the answer|the correct answer|answer|it|that)?\s*"
    r"(?:is|was|应该是|应当是|就是|是|为)?\s*[:：]?\s*(?:the\s+)?"
)
_DENIED = regex.compile(
    r"(?:不是|并非|而非|不会是|不叫|\bnot(?: the| a)?|n't(?: the| a)?)[\s“\"'《「]*$"
)
_NOT_WORD = regex.compile(r"[^\p{L}\p{N}]+")
_MARKS = regex.compile(r"[*_`#“”\"《》「」『』]")
_LATIN = regex.compile(r"^[\p{Latin}\p{N}]")
_NUMBER = regex.compile(r"(?<![\p{N}.])(?:(?<![\p{L}\p{N})])[-−])?\d+(?:,\d{3})*(?:\.\d+)?")
_ANNOUNCED = regex.compile(
    r"(?:答案|最终结果|final answer|answer|\\boxed)\s*(?:应该是|是|为|is|=|:|\{|\s)*\s*"
)
_HAN_NUMBER = regex.compile("[零〇一二两三四五六七八九十百千万]+")
_NO_NUMBER = regex.compile(
    "一(?:共|样|起|般|定|些|直|下|旦|切|方面|个人|会儿)|统一|唯一|第一|万一|千万|其一|之一|十分"
)
_DIGITS = {sign: value for value, sign in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_TENS = {"十": 10, "百": 100, "千": 1000}
_UNIT_LETTERS = 4


def names_answer(text: str, answers: Sequence[str], wrong: Sequence[str]) -> tuple[bool, bool]:
    """Whether an answer is one of `answers`, and whether it names one.

    >>> names_answer("答案是木星。", ["木星"], ["土星"])
    (True, True)
    >>> names_answer("木星或土星", ["木星"], ["土星"])
    (False, False)

    Args:
        text: What came back.
        answers: Each right by itself.
        wrong: What must not be named beside it, other than to deny it.
    """
    text = _plain(text)
    loose = any(_names(text, one) for one in answers) and not any(
        _names(text, one) for one in wrong
    )
    bare = {_bare(text), _bare(_FRAME.sub("", text))}
    return loose and any(_bare(_plain(one)) in bare for one in answers), loose


def names_number(text: str, number: float) -> tuple[bool, bool]:
    """Whether an answer is a number with at most a unit, and whether it comes to that number.

    What it comes to is the number after "答案是" or the like, or else the last one; numbers written
    in Chinese count where there are no others.

    >>> names_number("五十七元", 57), names_number("12×3=36，再加21，一共57元", 57)
    ((True, True), (False, True))
    """
    text = _plain(text)
    found = _numbers(text)
    if not found:
        return False, False
    announced = list(_ANNOUNCED.finditer(text))
    after = _numbers(text[announced[-1].end() :]) if announced else []
    loose = (after[0] if after else found[-1]) == number
    spoken = _FRAME.sub("", text) if len(found) == 1 else text
    rest = regex.sub(r"[^\p{L}]|[零〇一二两三四五六七八九十百千万]", "", spoken)
    return loose and len(found) == 1 and len(rest) <= _UNIT_LETTERS, loose


def _plain(text: str) -> str:
    return str(_MARKS.sub("", unicodedata.normalize("NFKC", text))).strip().casefold()


def _bare(text: str) -> str:
    return str(_NOT_WORD.sub("", text))


def _names(text: str, name: str) -> bool:
    """Whether a name stands in a text and is not denied there."""
    name = _plain(name)
    pattern = regex.escape(name)
    if _LATIN.match(name):
        pattern = rf"(?<![\p{{Latin}}\p{{N}}]){pattern}(?![\p{{Latin}}\p{{N}}])"
    return any(not _DENIED.search(text[: one.start()]) for one in regex.finditer(pattern, text))


def _numbers(text: str) -> list[float]:
    found = [float(one.replace(",", "").replace("−", "-")) for one in _NUMBER.findall(text)]
    if found:
        return found
    return [_from_han(one) for one in _HAN_NUMBER.findall(_NO_NUMBER.sub("", text))]


def _from_han(signs: str) -> float:
    """A number written in Chinese, below a hundred million."""
    if len(signs) > 1 and all(one in _DIGITS for one in signs):
        return float("".join(str(_DIGITS[one]) for one in signs))
    whole = part = digit = 0
    for sign in signs:
        if sign in _DIGITS:
            digit = _DIGITS[sign]
        elif sign in _TENS:
            part, digit = part + (digit or 1) * _TENS[sign], 0
        else:
            whole, part, digit = (whole + part + digit) * 10_000, 0, 0
    return float(whole + part + digit)
