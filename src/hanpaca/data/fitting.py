"""Conversations that are longer than a block: prompts are cut, answers never.

An answer without its end teaches not to stop. So what is too long is taken apart between its
exchanges; of an exchange that is too long by itself the longest message of the prompt loses its
middle, as what is asked stands at its beginning or its end; and an answer that has no room even so
is left out and counted.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from hanpaca.data.conversations import Conversation
from hanpaca.data.templates import Labelled, Writer, encode_conversation

WHOLE, CUT_PROMPTS, TOO_LONG = "sequences", "prompts cut", "answers left out"
"""What is counted."""
_GAP = "…"
"""Stands where a prompt was cut."""


def fitted_sequences(
    conversation: Conversation, writer: Writer, block_tokens: int, counts: Counter[str]
) -> Iterator[Labelled]:
    """Ids and labels of a conversation, each sequence no longer than a block.

    Args:
        conversation: Any number of turns.
        writer: Template and tokenizer.
        block_tokens: Room for a sequence.
        counts: Is added to.

    Raises:
        ArtifactError: As `encode_conversation`.
        DataError: As `encode_conversation`.
    """
    sequences = encode_conversation(conversation, writer)
    if all(len(ids) <= block_tokens for ids, _ in sequences):
        counts[WHOLE] += len(sequences)
        yield from sequences
        return
    for group in _groups(conversation, writer, block_tokens):
        fitting = _cut(group, writer, block_tokens)
        if fitting is None:
            counts[TOO_LONG] += 1
            continue
        counts[WHOLE] += len(fitting[1])
        counts[CUT_PROMPTS] += fitting[0]
        yield from fitting[1]


def _groups(
    conversation: Conversation, writer: Writer, block_tokens: int
) -> Iterator[Conversation]:
    """As many exchanges as fit one after the other, each group with the system prompt."""
    system = tuple(turn for turn in conversation[:1] if turn.role == "system")
    group: Conversation = ()
    for exchange in _exchanges(conversation[len(system) :]):
        longer = (*group, *exchange)
        if group and _size((*system, *longer), writer) > block_tokens:
            yield (*system, *group)
            longer = exchange
        group = longer
    yield (*system, *group)


def _exchanges(turns: Conversation) -> Iterator[Conversation]:
    """What is asked, with its answers."""
    begun: list[int] = [
        number
        for number, turn in enumerate(turns)
        if turn.role != "assistant" and (number == 0 or turns[number - 1].role == "assistant")
    ]
    for begin, end in zip(begun, [*begun[1:], len(turns)], strict=True):
        yield turns[begin:end]


def _size(conversation: Conversation, writer: Writer) -> int:
    return max((len(ids) for ids, _ in encode_conversation(conversation, writer)), default=0)


def _cut(
    conversation: Conversation, writer: Writer, block_tokens: int
) -> tuple[bool, list[Labelled]] | None:
    """Whether a prompt was cut, and the sequences; nothing where an answer would have to be cut."""
    sequences = encode_conversation(conversation, writer)
    if all(len(ids) <= block_tokens for ids, _ in sequences):
        return False, sequences
    asked = [number for number, turn in enumerate(conversation) if turn.role != "assistant"]
    longest = max(asked, key=lambda number: len(conversation[number].content))
    low, high = 0, len(conversation[longest].content) - 1
    found = None
    while low <= high:
        kept = (low + high) // 2
        tried = encode_conversation(_shortened(conversation, longest, kept), writer)
        if all(len(ids) <= block_tokens for ids, _ in tried):
            found, low = tried, kept + 1
        else:
            high = kept - 1
    return None if found is None else (True, found)


def _shortened(conversation: Conversation, number: int, kept: int) -> Conversation:
    text = conversation[number].content
    head, tail = text[: (kept + 1) // 2], text[len(text) - kept // 2 :]
    short = replace(conversation[number], content=f"{head}{_GAP}{tail}")
    return (*conversation[:number], short, *conversation[number + 1 :])
