"""Chinese words and their definitions, as jionlp carries them."""

import random
import re
from pathlib import Path

from hanpaca.data.builtin.dictionary import Entry, named_from_meaning
from hanpaca.data.builtin.material import BuiltinMaterial, exchange, secrets_of, together
from hanpaca.data.builtin.packages import zipped_text
from hanpaca.errors import DataError

TASK = "word_of_meaning"
_FILE = "chinese_word_dictionary.txt"
_MOST_BYTES = 64_000_000
_EXPLAIN = ("“{word}”是什么意思？", "请解释“{word}”。")
_SENSE = re.compile(r"(?:^|\s+)\d{1,2}\.\s*")
_DAMAGED = re.compile("[\ufffd『』②③④⑤～丨｜]|参见。|见。$|作。$")
_SHORTEST, _LONGEST = 6, 120
_RUN = 12


def build_words(file: Path, *, num_heldout: int = 300, seed: int = 0) -> BuiltinMaterial:
    """Divide the dictionary; definitions that have 12 characters of a held-out one are left out.

    A held-out word may stand in the definition of another: it is the language's own.

    Args:
        file: The packed list.
        num_heldout: Entries for the evaluation only.
        seed: Decides which.

    Raises:
        DataError: The file is damaged or holds too little.
    """
    entries, num_dropped = _read(file)
    chosen = set(random.Random(seed).sample(range(len(entries)), min(num_heldout, len(entries))))
    heldout = [one for at, one in enumerate(entries) if at in chosen]
    rest = [one for at, one in enumerate(entries) if at not in chosen]
    secrets = secrets_of([one.meaning for one in heldout], _RUN)
    same = {one.meaning for one in heldout}
    learned = [one for one in rest if one.meaning not in same and not secrets.found_in(one.meaning)]
    if not heldout or not learned:
        raise DataError(f"{file}: {len(entries)} words are too few to hold {num_heldout} out")
    chance = random.Random(seed)
    asked, drills = named_from_meaning(TASK, "词", heldout, learned, seed)
    return BuiltinMaterial(
        documents=tuple(together("", map(_line, learned))),
        conversations=tuple(
            exchange(chance.choice(_EXPLAIN).format(word=one.word), one.meaning) for one in learned
        ),
        heldout_documents=tuple(map(_line, heldout)),
        heldout_questions=tuple(
            {
                "word": "",
                "question": _EXPLAIN[0].format(word=one.word),
                "reference": one.meaning,
            }
            for one in heldout
        ),
        asked=asked,
        drills={TASK: drills},
        secrets=secrets,
        num_dropped=num_dropped,
        num_leaking=len(rest) - len(learned),
    )


def _read(file: Path) -> tuple[list[Entry], int]:
    lines = zipped_text(file, _FILE, most_bytes=_MOST_BYTES).splitlines()
    found: dict[str, Entry] = {}
    for line in lines:
        word, tab, meaning = line.partition("\t")
        meaning = _tidied(meaning)
        if tab and 1 < len(word) <= 4 and _is_whole(word, meaning):
            found.setdefault(word, Entry(word, meaning))
    return list(found.values()), len(lines) - len(found)


def _tidied(meaning: str) -> str:
    """The senses as one sentence each, without their numbers."""
    senses = (sense.strip() for sense in _SENSE.split(meaning.replace("﹐", "，")))
    text = "".join(_sentence(sense) for sense in senses if sense)
    return text.replace("﹑", "、").replace(";", "；").replace('"', "")


def _sentence(text: str) -> str:
    return text if text[-1] in "。！？" else f"{text}。"


def _is_whole(word: str, meaning: str) -> bool:
    return (
        _SHORTEST <= len(meaning) <= _LONGEST
        and word not in meaning
        and _DAMAGED.search(meaning) is None
    )


def _line(one: Entry) -> str:
    return f"{one.word}：{one.meaning}"
