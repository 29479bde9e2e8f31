"""Instructions that a program can verify, after IFEval (Zhou et al. 2023), for Chinese and English.

Each is a key of a prompt's `follow` and its argument. Strict looks at the answer as it is; loose
also at it without its first line, its last, both, and without marks of emphasis, as IFEval does,
and lets counts of characters and words miss their bounds by a tenth.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import regex

INSTRUCTIONS = (
    *("han", "words", "paragraphs", "sentences", "items", "lines", "chinese_list", "titles"),
    *("contains", "excludes", "times", "han_a_line", "acrostic", "begins", "ends"),
    *("script", "no_latin", "no_han", "json"),
)
"""`han` and `words`: from, to; `titles`: at least so many names in 《》; `times`: a text and how
often at least; `han_a_line`: Han in each; `acrostic`: the first Han of the lines; the others as
named."""
_SLACK = 0.1
_HAN, _LATIN = regex.compile(r"\p{Han}"), regex.compile(r"\p{Latin}")
_WORD = regex.compile(r"[\p{L}\p{N}]+(?:[’'-][\p{L}\p{N}]+)*")
_SENTENCE_END = regex.compile(r"(?:[。！？!?…]+|\.(?=\s|$|[”\"']))[”\"’'」』）)]*")
_ABBREVIATED = regex.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|St|e\.g|i\.e|etc|vs)\.(?=\s\p{Ll}|\s\p{Lu}\p{Ll}+\s)"
)
_ITEM = regex.compile(r"^\s*(?:[-*•·+]\s+|\d+\s*[.、)）]|[（(]?[一二三四五六七八九十]+[)）、.])")
_TITLE = regex.compile(r"《[^《》\n]+》")
_NUMERALS = "一二三四五六七八九十"
_FENCE = regex.compile(r"^```\w*\n(.*?)\n?```$", regex.DOTALL)
_NEUTRAL = frozenset("着")
_SIMPLIFIED = frozenset("体么网虫听机坏种党洒蜡价极柜构触适")
"""That Big5 has as well, as rare characters of another meaning."""


def followed(text: str, instructions: Mapping[str, Any]) -> dict[str, tuple[bool, bool]]:
    """Each instruction, strict and loose.

    >>> followed("春风拂面。", {"han": [4, 6], "ends": "！"})
    {'han': (True, True), 'ends': (False, False)}
    """
    versions = _versions(text)
    found = {}
    for kind, wanted in instructions.items():
        strict = _follows(kind, wanted, text.strip(), slack=0.0)
        loose = any(_follows(kind, wanted, one, slack=_SLACK) for one in versions)
        found[kind] = (strict, strict or loose)
    return found


def _versions(text: str) -> list[str]:
    """The answer without what polite answers put around it."""
    lines = text.strip().splitlines()
    parts = [lines, lines[1:], lines[:-1], lines[1:-1]]
    texts = ["\n".join(part).strip() for part in parts]
    return [one for text in texts if text for one in (text, text.replace("*", ""))]


def _follows(kind: str, wanted: Any, text: str, *, slack: float) -> bool:  # noqa: ANN401  # as YAML has it
    """Whether an answer that says something keeps one instruction."""
    if not text:
        return False
    match kind:
        case "han" | "words":
            low, high = wanted
            count = len((_HAN if kind == "han" else _WORD).findall(text))
            return bool(low * (1 - slack) <= count <= high * (1 + slack))
        case "contains":
            return all(one.casefold() in text.casefold() for one in wanted)
        case "excludes":
            return not any(one.casefold() in text.casefold() for one in wanted)
        case "times":
            return all(
                text.casefold().count(one.casefold()) >= most for one, most in wanted.items()
            )
        case "begins":
            return text.startswith(str(wanted))
        case "ends":
            return text.endswith(str(wanted))
        case "json":
            return _has_keys(text, wanted)
        case _:
            return _has_form(kind, wanted, text)


def _has_form(kind: str, wanted: Any, text: str) -> bool:  # noqa: ANN401
    """Instructions about the form of the lines and about letters."""
    lines = [one for one in text.splitlines() if one.strip()]
    match kind:
        case "no_latin":
            return not _LATIN.search(text)
        case "no_han":
            return not _HAN.search(text)
        case "script":
            return _in_script(text, wanted)
        case "han_a_line":
            return all(len(_HAN.findall(line)) == wanted for line in lines)
        case "acrostic":
            first = (_HAN.search(line) for line in lines)
            return "".join(one[0] for one in first if one) == str(wanted)
        case "chinese_list":
            starts = [regex.match(rf"\s*([{_NUMERALS}])、", line) for line in lines]
            numbered = [one[1] for one in starts if one]
            return numbered == list(_NUMERALS[:wanted])
        case _:
            return bool(_count(kind, text, lines) == wanted) or (
                kind == "titles" and _count(kind, text, lines) >= wanted
            )


def _count(kind: str, text: str, lines: Sequence[str]) -> int:
    match kind:
        case "lines":
            return len(lines)
        case "items":
            return sum(1 for line in lines if _ITEM.match(line))
        case "titles":
            return len(set(_TITLE.findall(text)))
        case "paragraphs":
            apart = [one for one in regex.split(r"\n\s*\n", text) if one.strip()]
            return len(apart) if len(apart) > 1 else len(lines)
        case _:
            return _num_sentences(text)


def _num_sentences(text: str) -> int:
    """Ends of sentences, and one more where the last has none."""
    text = _ABBREVIATED.sub(lambda one: one[0].replace(".", ""), text.strip())
    ends = list(_SENTENCE_END.finditer(text))
    open_end = not ends or text[ends[-1].end() :].strip() != ""
    return len(ends) + open_end


def _in_script(text: str, wanted: str) -> bool:
    """Whether no character is of the other script alone, and one at least of the wanted script.

    A character of GB 2312 that Big5 lacks is simplified, one of Big5 that GB 2312 lacks
    traditional; most are in both.
    """
    letters = set(_HAN.findall(text)) - _NEUTRAL
    simplified = {one for one in letters if _in(one, "gb2312") and not _in(one, "big5")}
    simplified |= letters & _SIMPLIFIED
    traditional = {one for one in letters if _in(one, "big5") and not _in(one, "gb2312")}
    if wanted == "traditional":
        return bool(traditional) and not simplified
    return bool(simplified) and not traditional


def _in(letter: str, encoding: str) -> bool:
    try:
        letter.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _has_keys(text: str, keys: Sequence[str]) -> bool:
    """Whether a text is a JSON object with these keys; a fence around it is no fault."""
    fenced = _FENCE.match(text)
    try:
        tree = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return False
    return isinstance(tree, dict) and set(keys) <= tree.keys()
