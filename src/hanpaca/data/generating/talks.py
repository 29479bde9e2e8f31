"""What is asked for one row, call after call: each way is a conversation that takes the replies."""

import json
import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from hanpaca.data.generating.words import GeneratingWords
from hanpaca.data.readers.parts import TextPart

AskedFor = Literal["instruction", "answer", "turn"]
"""A JSON object with an instruction, running text, or a user's turn that continues a template."""
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"instruction": {"type": "string"}},
    "required": ["instruction"],
    "additionalProperties": False,
}
"""Of the reply to what asks for an instruction."""
_INSTRUCTION_TOKENS = 512


@dataclass(frozen=True)
class TalkCall:
    """One call."""

    asked_for: AskedFor
    messages: Sequence[dict[str, str]] = ()
    prompt: str = ""
    """To be continued, where there are no messages."""
    stop: str = ""
    """Ends what continues it."""

    def limit(self, max_tokens: int) -> int:
        """Tokens of the reply at most, where an answer may have so many."""
        return max_tokens if self.asked_for == "answer" else min(_INSTRUCTION_TOKENS, max_tokens)

    def body(self, *, model: str, temperature: float, seed: int, max_tokens: int) -> dict[str, Any]:
        """As OpenAI's API has it, without what a reply's form is held to."""
        asked: dict[str, Any] = {"model": model, "temperature": temperature, "seed": seed}
        asked |= {"messages": list(self.messages)} if self.messages else {"prompt": self.prompt}
        return (
            asked
            | ({"stop": [self.stop]} if self.stop else {})
            | {"max_tokens": self.limit(max_tokens)}
        )

    @property
    def most_input_tokens(self) -> int:
        """No tokenizer makes more tokens than bytes; a template adds a few to each turn."""
        texts = [self.prompt, *(one["content"] for one in self.messages)]
        return sum(len(one.encode()) for one in texts) + 16 * (1 + len(self.messages))


@dataclass(frozen=True)
class TalkReply:
    """What came back."""

    text: str
    ended: str
    """`stop` or `length`."""


@dataclass(frozen=True)
class MadeRow:
    """What a conversation came to."""

    instruction: str = ""
    answer: str = ""
    fault: Literal["", "no JSON", "cut off", "too long"] = ""
    """Why it came to nothing."""
    drawn: dict[str, Any] = field(default_factory=dict)
    """What it was made from."""


Asking = Generator[TalkCall, TalkReply, str | MadeRow]
"""Gives questions and takes replies, for an instruction or the fault there is instead."""
Talk = Generator[TalkCall, TalkReply, MadeRow]
"""Gives questions, takes the reply to each, and ends with a row."""


@dataclass(frozen=True)
class Sources:
    """What rows are made from; which of it a row is made from is drawn by its number."""

    words: GeneratingWords
    seed: int = 0
    seeds: Sequence[str] = ()
    """Instructions to be rewritten."""
    passages: Sequence[tuple[str, TextPart]] = ()
    """Of documents, with the path of each."""

    def grid(self, number: int) -> Talk:
        """An instruction for a cell of the grid, then its answer."""
        cell = self.words.cell(_place(number, self.words.num_cells, self.seed))
        made = yield from _instruction(self.words.instruction.format(**cell), self.words)
        return (yield from _answered(made, {**cell}))

    def evolve(self, number: int, rounds: int) -> Talk:
        """An instruction that is given or made, rewritten so many times, then its answer."""
        if self.seeds:
            first = self.seeds[_place(number, len(self.seeds), self.seed)]
            drawn: dict[str, Any] = {"first": first}
            made: str | MadeRow = first
        else:
            cell = self.words.cell(_place(number, self.words.num_cells, self.seed))
            made = yield from _instruction(self.words.instruction.format(**cell), self.words)
            drawn = {**cell, "first": made}
        chance = random.Random(f"{self.seed} {number}")
        drawn["evolutions"] = []
        for _ in range(rounds):
            if isinstance(made, MadeRow):
                return made
            how = chance.choice(self.words.evolutions)
            drawn["evolutions"].append(how)
            asked = self.words.evolved.format(evolution=how, instruction=made)
            made = yield from _instruction(asked, self.words)
        return (yield from _answered(made, drawn))

    def from_text(self, number: int) -> Talk:
        """A question about a passage, then its answer out of it."""
        path, part = self.passages[_place(number, len(self.passages), self.seed)]
        made = yield from _instruction(self.words.question.format(text=part.text), self.words)
        source = {"path": path, "unit": part.unit, "number": part.number, "text": part.text}
        return (yield from _answered(made, {"source": source}, self.words.grounded, part.text))

    def magpie(self, opening: str, stop: str) -> Talk:
        """The user's turn as the model itself would go on, then its answer (arXiv 2406.08464)."""
        reply = yield TalkCall("turn", prompt=opening, stop=stop)
        if reply.ended != "stop":
            return MadeRow(fault="cut off")
        return (yield from _answered(reply.text.strip(), {}))


def _instruction(prompt: str, words: GeneratingWords) -> Asking:
    """Ask for an instruction; once more where the reply is no JSON."""
    messages = [{"role": "user", "content": prompt}]
    reply = yield TalkCall("instruction", messages)
    if found := instruction_in(reply.text):
        return found
    said = {"role": "assistant", "content": reply.text}
    asked = {"role": "user", "content": words.repair.format()}
    reply = yield TalkCall("instruction", [*messages, said, asked])
    return instruction_in(reply.text) or MadeRow(fault="no JSON")


def _answered(
    made: str | MadeRow, drawn: dict[str, Any], prompt: str = "{instruction}", text: str = ""
) -> Talk:
    if isinstance(made, MadeRow):
        return made
    asked = prompt.format(instruction=made, text=text)
    reply = yield TalkCall("answer", [{"role": "user", "content": asked}])
    fault: Literal["", "cut off"] = "cut off" if reply.ended == "length" else ""
    return MadeRow(made, reply.text.strip(), fault, drawn)


def instruction_in(reply: str) -> str:
    """The instruction of a reply; empty where it has none that can be read.

    >>> instruction_in('Sure: ```json {"instruction": "写一首诗"}```'), instruction_in("写一首诗")
    ('写一首诗', '')
    """
    start, end = reply.find("{"), reply.rfind("}")
    try:
        tree = json.loads(reply[start : end + 1], strict=False) if start >= 0 else None
    except (ValueError, RecursionError):
        return ""
    found = tree.get("instruction") if isinstance(tree, dict) else None
    return whole_characters(found).strip() if isinstance(found, str) else ""


def whole_characters(text: str) -> str:
    """A text with a question mark for each half of a surrogate pair, which JSON can hold."""
    return text.encode("utf-8", "replace").decode()


def _place(number: int, size: int, seed: int) -> int:
    """Where a row is drawn from: each of `size` places once before any comes again."""
    turn, step = divmod(number, size)
    return _order(size, f"{seed} {turn}")[step]


@lru_cache(maxsize=4)
def _order(size: int, key: str) -> Sequence[int]:
    places = list(range(size))
    random.Random(key).shuffle(places)
    return places
