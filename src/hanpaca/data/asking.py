"""What a question is worded with, and how a model is asked about texts, by language."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hanpaca.data.cleaning.characters import SCRIPTS, codes_of, count_scripts

_ENGLISH = (
    "a an and are be by can could did do does for from had has have how i in is it me of on or "
    "please tell that the there these this those to was were what when where which who whom whose "
    "why will with would you"
)
_CHINESE = (
    "是什么意思 什么意思 为什么 怎么样 是什么 有什么 什么是 有哪些 是哪些 什么 怎么 怎样 如何 为何 "
    "哪些 哪个 哪里 哪儿 哪位 哪年 哪一 多少 几个 是谁 谁的 是否 请问 請問 是什麼意思 什麼意思 "
    "為什麼 怎麼樣 是什麼 有什麼 什麼是 什麼 怎麼 怎樣 為何 哪裡 哪個 幾個 是誰 誰的"
)
_LATIN_WORD = re.compile(r"[A-Za-z]+")
_ASKING_ENGLISH = re.compile(rf"\b(?:{'|'.join(_ENGLISH.split())})\b", re.IGNORECASE)
_ASKING_CHINESE = re.compile("|".join(sorted(_CHINESE.split(), key=len, reverse=True)))


@dataclass(frozen=True)
class AskingWords:
    """How a model is asked in one language; `{…}` are filled in."""

    answer: str
    """A `{question}` from numbered `{sources}`."""
    nothing: str
    """Said where no source is like the question; no model is asked."""
    summary: str
    """Of a `{text}`, as a whole."""
    part: str
    """Of a part of a text, `{text}`, whose notes are put together later."""
    whole: str
    """From the notes of all parts, `{text}`."""
    refined: str
    """A summary so far, `{summary}`, and the next part, `{text}`."""


CHINESE = AskingWords(
    answer=(
        "下面是带编号的资料。请只根据资料回答问题，并在每句话后面用方括号注明资料的编号，例如[1]。"
        "资料里没有答案时，只回答“资料里没有”。\n\n{sources}\n\n问题：{question}"
    ),
    nothing="文档里没有找到与问题有关的内容。",
    summary="请用中文概括下面这篇文章的主要内容，不要添加文章里没有的内容。\n\n{text}",
    part="下面是一篇长文中的一段。请用中文简要记下这一段的要点。\n\n{text}",
    whole="下面依次是一篇长文各段的要点。请把它们合成一篇连贯的中文概要。\n\n{text}",
    refined=(
        "这是一篇长文前面部分的概要：\n\n{summary}\n\n接下来的一段是：\n\n{text}\n\n"
        "请结合这一段，写出补充后的中文概要；如果这一段没有新的内容，就照原样写出前面的概要。"
    ),
)
ENGLISH = AskingWords(
    answer=(
        "Here are numbered sources. Answer the question from the sources alone, and after each "
        "sentence name the source it comes from in brackets, such as [1]. If they do not hold the "
        'answer, say only "The sources do not say."\n\n{sources}\n\nQuestion: {question}'
    ),
    nothing="Nothing in the documents is like this question.",
    summary="Summarise this text; add nothing that it does not say.\n\n{text}",
    part="This is a part of a long text. Note its main points briefly.\n\n{text}",
    whole=(
        "These are notes on the parts of a long text, in order. Put them together into one "
        "summary.\n\n{text}"
    ),
    refined=(
        "This is a summary of the first parts of a long text:\n\n{summary}\n\nThe next part is:"
        "\n\n{text}\n\nWrite the summary anew with what this part adds; if it adds nothing, "
        "write the summary as it is."
    ),
)


def wording_for(text: str) -> AskingWords:
    """Chinese where a text has two Han characters and more for each Latin word, else English.

    >>> wording_for("Transformer是什么") is CHINESE, wording_for("What is 画蛇添足?") is ENGLISH
    (True, True)
    """
    num_han = int(count_scripts(codes_of(text))[SCRIPTS.index("Han")])
    num_words = len(_LATIN_WORD.findall(text))
    return CHINESE if num_han >= max(1, 2 * num_words) else ENGLISH


def subject_of(question: str) -> str:
    """A question without the words that only ask; the whole where nothing else is left.

    >>> subject_of("画蛇添足是什么意思？"), subject_of("What is LoRA?"), subject_of("为什么？")
    ('画蛇添足？', '  LoRA?', '为什么？')
    """
    bare = _ASKING_ENGLISH.sub("", _ASKING_CHINESE.sub(" ", question))
    subject = re.sub(r"是\s+", " ", bare)
    return subject if re.search(r"\w", subject) else question


def numbered(texts: Sequence[str]) -> str:
    """Sources as a prompt shows them."""
    return "\n\n".join(f"[{number}] {text}" for number, text in enumerate(texts, start=1))
