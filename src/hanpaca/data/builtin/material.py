"""What is made of one source: to learn, to measure on, and to ask so that a program can judge."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest
from typing import TypeVar

from hanpaca.data.conversations import Conversation, Message

Kind = TypeVar("Kind")
NUM_OPTIONS = 4
_AS_NEAR = 0.1
"""By how much the share of an option's characters that are in the question may differ from that of
the right one."""
DOCUMENT_CHARACTERS = 800
"""Most that short entries are put together to; one that is longer stands alone."""


def grouped(items: Iterable[Kind], key: Callable[[Kind], str]) -> dict[str, list[Kind]]:
    """Items by what they have in common; groups in the order of their first items."""
    found: dict[str, list[Kind]] = {}
    for one in items:
        found.setdefault(key(one), []).append(one)
    return found


@dataclass(frozen=True)
class TaskQuestion:
    """A question on a held-out item, whose answer a program can judge."""

    task: str
    question: str
    answers: tuple[str, ...]
    """Each right by itself; of a question with options, the right one alone."""
    options: tuple[str, ...] = ()
    """None where the answer is written freely."""


@dataclass(frozen=True)
class Secrets:
    """What no learned text may hold: runs of characters of what is held out."""

    runs: frozenset[str]
    num_characters: int
    """Of each run."""

    def found_in(self, text: str) -> bool:
        """Whether a text holds one."""
        size = self.num_characters
        return any(text[at : at + size] in self.runs for at in range(len(text) - size + 1))


@dataclass(frozen=True)
class BuiltinMaterial:
    """One source, divided into what is learned and what is held out."""

    documents: tuple[str, ...] = ()
    conversations: tuple[Conversation, ...] = ()
    heldout_documents: tuple[str, ...] = ()
    heldout_questions: tuple[Mapping[str, str], ...] = ()
    """`word`, `question` and `reference` each."""
    asked: tuple[TaskQuestion, ...] = ()
    """Questions of its tasks on what is held out."""
    drills: Mapping[str, tuple[Conversation, ...]] = field(default_factory=dict)
    """By task: conversations of the same form on what is learned."""
    secrets: Secrets = Secrets(frozenset(), 1)
    num_dropped: int = 0
    """Entries that are damaged, empty or there already."""
    num_leaking: int = 0
    """Entries left out of learning because they hold what is held out."""


def secrets_of(texts: Iterable[str], num_characters: int) -> Secrets:
    """All runs of so many characters in the texts; a shorter text has none.

    >>> secrets_of(["abcd"], 3).found_in("xbcdx")
    True
    """
    return Secrets(
        frozenset(
            text[at : at + num_characters]
            for text in texts
            for at in range(len(text) - num_characters + 1)
        ),
        num_characters,
    )


def without_leaks(sources: Sequence[BuiltinMaterial]) -> list[BuiltinMaterial]:
    """Leave out of each source what holds another's held-out text."""
    return [
        _without(one, [other.secrets for other in sources if other is not one]) for one in sources
    ]


def _without(source: BuiltinMaterial, secrets: Sequence[Secrets]) -> BuiltinMaterial:
    def clean(text: str) -> bool:
        return not any(one.found_in(text) for one in secrets)

    def clean_talk(talk: Conversation) -> bool:
        return clean("\n".join(message.content for message in talk))

    documents = tuple(filter(clean, source.documents))
    return replace(
        source,
        documents=documents,
        conversations=tuple(filter(clean_talk, source.conversations)),
        drills={task: tuple(filter(clean_talk, talks)) for task, talks in source.drills.items()},
        num_leaking=source.num_leaking + len(source.documents) - len(documents),
    )


def taking_turns(lists: Sequence[Sequence[Kind]]) -> list[Kind]:
    """One of each list after the other, until all are used up.

    >>> taking_turns(["ac", "b"])
    ['a', 'b', 'c']
    """
    gap = object()
    return [one for one in chain(*zip_longest(*lists, fillvalue=gap)) if one is not gap]  # type: ignore[misc]


def exchange(question: str, answer: str) -> Conversation:
    """A question and its answer."""
    return Message("user", question), Message("assistant", answer)


def together(title: str, entries: Iterable[str]) -> list[str]:
    """Entries put together to documents, each under the title, if there is one."""
    documents: list[str] = []
    size = DOCUMENT_CHARACTERS
    for entry in entries:
        if size + len(entry) > DOCUMENT_CHARACTERS:
            documents.append(title)
            size = 0
        documents[-1] += f"\n{entry}" if documents[-1] else entry
        size += len(entry)
    return documents


def with_options(
    task: str, question: str, right: str, others: Sequence[str], chance: random.Random
) -> TaskQuestion | None:
    """A question with the right answer among three others, in random order.

    The others have as large a share of their characters in the question as the right one has: else
    who counts these and knows nothing is right nine times of ten (measured on laws and words).

    Args:
        task: It belongs to.
        question: What is asked.
        right: The answer.
        others: To draw from; those that are the answer too must not be among them.
        chance: Draws and orders.

    Returns:
        The question; None where too few others are like that.
    """
    held = frozenset(question)
    wanted = _shared(held, right)
    found = [
        one
        for one in dict.fromkeys(others)
        if one != right and abs(_shared(held, one) - wanted) <= _AS_NEAR
    ]
    if len(found) < NUM_OPTIONS - 1:
        return None
    options = [right, *chance.sample(found, NUM_OPTIONS - 1)]
    chance.shuffle(options)
    return TaskQuestion(task, question, (right,), tuple(options))


def most_shared(question: str, options: Sequence[str]) -> int:
    """The option whose characters are to the largest share in the question: knows no language.

    >>> most_shared("专利权的期限", ["《海商法》", "《专利法》"])
    1
    """
    held = frozenset(question)
    return max(range(len(options)), key=lambda at: (_shared(held, options[at]), -at))


def _shared(held: frozenset[str], text: str) -> float:
    """Share of a text's characters that are among others."""
    return len(held.intersection(text)) / len(set(text))


def draw_whole(
    groups: Mapping[str, Sequence[Kind]],
    wanted: int,
    seed: int,
    size: Callable[[Sequence[Kind]], int] = len,
) -> set[str]:
    """Draw whole groups at random until they have `wanted` members; never more than half of them.

    Args:
        groups: By name.
        wanted: Members.
        seed: Of the draw.
        size: Members of a group.
    """
    names = sorted(groups)
    random.Random(seed).shuffle(names)
    drawn: set[str] = set()
    found = 0
    for name in names[: len(names) // 2]:
        if found >= wanted:
            break
        drawn.add(name)
        found += size(groups[name])
    return drawn
