"""One comparison by a judge: what it is asked, what it said, and what both orders come to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import regex

Messages = Sequence[Mapping[str, str]]
Ask = Callable[[Messages], str]
"""A judge: what it replies to a conversation."""
_VERDICT = regex.compile(r"\[\[\s*(A|B|C|tie)\s*\]\]", regex.IGNORECASE)
_RULE = (
    "You compare two assistants' answers to the same user. Judge which serves the user better: "
    "whether it is right, does what was asked, is in the language asked for, and is clear. Do not "
    "let the order of the answers, their length or the names of the assistants sway you. A longer "
    "answer is no better for being longer; repetition and filler make it worse. Of a conversation "
    "of several turns judge the whole. Explain in two or three sentences, then write the verdict "
    "on a line of its own: [[A]] if assistant A is better, [[B]] if assistant B is better, [[C]] "
    "if they are equally good or equally bad."
)
FIRST, SECOND, TIE = 1.0, 0.0, 0.5
"""What a verdict is worth to the answer that stood first."""


@dataclass(frozen=True)
class JudgedTalk:
    """A conversation to be judged: the user's turns and a model's answers to them."""

    turns: tuple[str, ...]
    answers: tuple[str, ...]
    notes: str = ""
    """What a good answer says."""

    @property
    def num_characters(self) -> int:
        """Of all answers."""
        return sum(map(len, self.answers))


@dataclass(frozen=True)
class Outcome:
    """What both orders of one comparison came to."""

    score: float
    """1 if the first talk won in both orders, 0 if it lost in both, else ½."""
    flipped: bool
    """The orders disagree."""
    unreadable: int
    """Of the two replies: had no verdict, which counts as a tie."""


def question(first: JudgedTalk, second: JudgedTalk) -> list[dict[str, str]]:
    """What a judge is asked about two talks with the same user, the first as assistant A."""
    parts = [f"{_told(first, 'A')}\n\n{_told(second, 'B')}"]
    if first.notes:
        parts.insert(0, f"[What a good answer says]\n{first.notes}\n\n")
    return [{"role": "system", "content": _RULE}, {"role": "user", "content": "".join(parts)}]


def verdict_of(reply: str) -> float | None:
    """The last verdict in a reply, as it is worth to the first answer; None where there is none.

    >>> verdict_of("Both are fine, but A is clearer. [[A]]"), verdict_of("I cannot say.")
    (1.0, None)
    """
    found = _VERDICT.findall(reply)
    if not found:
        return None
    return {"a": FIRST, "b": SECOND}.get(found[-1].lower(), TIE)


def compare(one: JudgedTalk, other: JudgedTalk, ask: Ask) -> Outcome:
    """Judge two talks in both orders; where the orders disagree, it is a tie."""
    seen = verdict_of(ask(question(one, other)))
    mirrored = verdict_of(ask(question(other, one)))
    unreadable = (seen is None) + (mirrored is None)
    forth = TIE if seen is None else seen
    back = TIE if mirrored is None else 1 - mirrored
    return Outcome(forth if forth == back else TIE, forth != back, unreadable)


def _told(talk: JudgedTalk, name: str) -> str:
    lines = [f"[Conversation with assistant {name}]"]
    for turn, answer in zip(talk.turns, talk.answers, strict=True):
        lines += [f"User: {turn}", f"Assistant {name}: {answer}"]
    return "\n".join([*lines, f"[End of the conversation with assistant {name}]"])
