"""JupyterLab's phrases in a language and in English: short translations that can be checked."""

import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from hanpaca.data.builtin.material import (
    BuiltinMaterial,
    TaskQuestion,
    exchange,
    secrets_of,
    together,
)
from hanpaca.errors import DataError
from hanpaca.files import read_json

TASK = "interface_phrase"
_ASK: Mapping[str, str] = {
    "zh": "“{phrase}”用英文怎么说？",
    "ko": "“{phrase}”을 영어로 어떻게 말합니까?",
}
_CONTEXT = "\x04"
_PLACE = re.compile(r"%\d|%[sd]|\{\w*\}|\$\w|<[^>]*>")
_LONGEST, _MOST_WORDS = 24, 6
_RUN = 12


def build_interface(
    folder: Path, language: str, *, num_heldout: int = 300, seed: int = 0
) -> BuiltinMaterial:
    """Divide the phrases: those held out come in no phrase that is learned.

    Args:
        folder: Of the JSON files of a language pack.
        language: Of the phrases.
        num_heldout: Phrases for the evaluation only.
        seed: Decides which.

    Raises:
        DataError: A file is damaged, or there are too few phrases.
    """
    pairs, num_dropped = _read(folder)
    phrases = sorted(pairs)
    chosen = set(random.Random(seed).sample(phrases, min(num_heldout, len(phrases) // 3)))
    heldout = [one for one in phrases if one in chosen]
    rest = [one for one in phrases if one not in chosen]
    english = {text.casefold() for one in heldout for text in pairs[one]}
    secrets = secrets_of(heldout, _RUN)
    learned = [
        one
        for one in rest
        if not secrets.found_in("\n".join((one, *pairs[one])))
        and not english & {text.casefold() for text in pairs[one]}
    ]
    if not heldout or not learned:
        raise DataError(f"{folder}: {len(phrases)} phrases are too few to hold {num_heldout} out")
    ask = _ASK[language.partition("-")[0].lower()]
    asked = _asked(heldout, pairs, ask, seed)
    return BuiltinMaterial(
        documents=tuple(together("", learned)),
        conversations=tuple(
            exchange(ask.format(phrase=one), pairs[one][0])
            for one in learned
            if len(one) <= _LONGEST
        ),
        heldout_documents=tuple(together("", heldout)),
        heldout_questions=tuple(
            {"word": "", "question": one.question, "reference": one.answers[0]} for one in asked
        ),
        asked=tuple(asked),
        secrets=secrets,
        num_dropped=num_dropped,
        num_leaking=len(rest) - len(learned),
    )


def _read(folder: Path) -> tuple[dict[str, list[str]], int]:
    """English texts by the phrase they are translated as, the commonest first."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    num_read = num_kept = 0
    for file in sorted(folder.glob("*.json")):
        tree = read_json(file)
        if not isinstance(tree, dict):
            raise DataError(f"{file}: not a list of phrases")
        for key, values in tree.items():
            english = key.rpartition(_CONTEXT)[2].strip()
            phrase = values[0].strip() if isinstance(values, list) and values else ""
            num_read += 1
            if english and phrase and english != phrase and not phrase.isascii():
                num_kept += english not in found[phrase]
                found[phrase][english] = None
    return {phrase: list(some) for phrase, some in found.items()}, num_read - num_kept


def _asked(
    phrases: Sequence[str], pairs: Mapping[str, Sequence[str]], ask: str, seed: int
) -> list[TaskQuestion]:
    """Those that are short and have no places for something else."""
    short = [
        one
        for one in phrases
        if len(one) <= _LONGEST
        and not _PLACE.search(one)
        and all(len(text.split()) <= _MOST_WORDS for text in pairs[one])
    ]
    random.Random(seed).shuffle(short)
    return [TaskQuestion(TASK, ask.format(phrase=one), tuple(pairs[one])) for one in short]
