"""Questions on entries of a dictionary: whose definition it is, and which character is missing."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hanpaca.data.builtin.material import TaskQuestion, exchange, with_options
from hanpaca.data.conversations import Conversation

_GAP = "□"


@dataclass(frozen=True)
class Entry:
    """A word and what it means."""

    word: str
    meaning: str


def named_from_meaning(
    task: str, words: str, heldout: Sequence[Entry], learned: Sequence[Entry], seed: int
) -> tuple[tuple[TaskQuestion, ...], tuple[Conversation, ...]]:
    """Ask which of four held-out words a definition belongs to.

    All four are held out, so that none is known better than the others.

    Args:
        task: Its name.
        words: What the entries are called in the question: `成语` or `词`.
        heldout: Asked about.
        learned: Asked in training.
        seed: Of the options.
    """
    chance = random.Random(seed)
    names = [one.word for one in heldout]
    ask = f"哪个{words}的意思是：{{meaning}}"

    def asked() -> Iterator[TaskQuestion]:
        for one in heldout:
            others = [name for name in names if len(name) == len(one.word)]
            if made := with_options(
                task, ask.format(meaning=one.meaning), one.word, others, chance
            ):
                yield made

    drills = (exchange(ask.format(meaning=one.meaning), f"{one.word}。") for one in learned)
    return tuple(asked()), tuple(drills)


def character_in_gap(
    task: str, words: str, heldout: Sequence[Entry], learned: Sequence[Entry], seed: int
) -> tuple[tuple[TaskQuestion, ...], tuple[Conversation, ...]]:
    """Ask which character of a word is missing, given what the word means.

    The other options stand at the same place of other held-out words.

    Args:
        task: Its name.
        words: What the entries are called in the question.
        heldout: Asked about.
        learned: Asked in training.
        seed: Of the gaps and options.
    """
    chance = random.Random(seed)
    ask = f"{words}“{{shown}}”的意思是：{{meaning}}{_GAP}处是哪个字？"

    def put(one: Entry, at: int) -> str:
        return ask.format(shown=one.word[:at] + _GAP + one.word[at + 1 :], meaning=one.meaning)

    def asked() -> Iterator[TaskQuestion]:
        for one in heldout:
            at = chance.randrange(len(one.word))
            others = [other.word[at] for other in heldout if len(other.word) > at]
            if made := with_options(task, put(one, at), one.word[at], others, chance):
                yield made

    def drills() -> Iterator[Conversation]:
        for one in learned:
            at = chance.randrange(len(one.word))
            yield exchange(put(one, at), f"{one.word[at]}。")

    return tuple(asked()), tuple(drills())
