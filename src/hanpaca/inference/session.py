"""A conversation with a model: it grows turn by turn and is never lost."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from hanpaca.errors import ArtifactError, RecipeError
from hanpaca.files import read_json, write_atomically
from hanpaca.inference.engine import Answer, Messages, Pieces, PromptTooLong
from hanpaca.inference.sampling import MAX_SEED, Sampling
from hanpaca.progress import Progress, Tell, silent

Message = dict[str, str]
Asked = Callable[[Messages, Sampling, int], Pieces]
"""Messages, sampling, and the tokens that must be left for the answer; see `ChatModel.stream`."""
_ROLES = ("user", "assistant")


@dataclass
class Session:
    """What was said, and what of it the model still sees."""

    ask_model: Asked
    context_tokens: int
    system: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    tell: Tell = silent
    """Called when the oldest turns no longer fit."""
    messages: list[Message] = field(default_factory=list)
    """Questions and answers in turn, without the system prompt; never shortened by itself."""
    num_left_out: int = 0
    """Of the oldest messages: the model no longer sees them."""
    answer: Answer | None = None
    """The last one that came to its end."""
    unanswered: str | None = None
    """The last question, where nothing was said to it."""
    _num_retries: int = 0

    def ask(self, question: str) -> Iterator[str]:
        """Ask on, and give the answer piece by piece.

        What was said stays in the conversation however the answer ends; a question to which
        nothing was said does not. Of a conversation that fills the context, the oldest turns are
        left out.

        Raises:
            PromptTooLong: The question does not fit even alone.
            ArtifactError: llama.cpp refuses.
            DataError: The question holds half a surrogate pair.
        """
        self._num_retries = 0
        yield from self._stream(question)

    def _stream(self, question: str) -> Iterator[str]:
        self.unanswered, self.answer = question, None
        said: list[str] = []
        try:
            pieces = self._answered({"role": "user", "content": question})
            for piece in pieces:
                said.append(piece)
                yield piece
        finally:
            if said or self.answer:
                self.unanswered = None
                self.messages += [
                    {"role": "user", "content": question},
                    {"role": "assistant", "content": "".join(said)},
                ]

    def retry(self) -> Iterator[str]:
        """Ask the last question again, with another seed: at temperature 0 it changes nothing.

        Raises:
            RecipeError: Nothing was asked yet.
        """
        question = self.undo()
        if question is None:
            raise RecipeError("there is no question to ask again")
        self._num_retries += 1
        return self._stream(question)

    def undo(self) -> str | None:
        """Take back the last question and its answer; gives the question, None if there is none."""
        if self.unanswered is not None:
            question, self.unanswered = self.unanswered, None
            return question
        if not self.messages:
            return None
        question = self.messages[-2]["content"]
        del self.messages[-2:]
        self.num_left_out = min(self.num_left_out, len(self.messages))
        return question

    def clear(self) -> None:
        """Begin anew, with the same system prompt."""
        self.messages.clear()
        self.num_left_out, self.unanswered, self.answer = 0, None, None

    def save(self, path: Path) -> None:
        """Write the conversation as one JSON object with `messages`, as instructions are read."""
        tree = {"messages": self.whole()}
        write_atomically(path, json.dumps(tree, ensure_ascii=False, indent=2) + "\n")

    def whole(self) -> list[Message]:
        """All that was said, with the system prompt."""
        return [*self._opening(), *self.messages]

    def load(self, path: Path) -> None:
        """Go on with a saved conversation, in place of this one.

        Raises:
            ArtifactError: The file is none that `save` writes.
        """
        self.go_on_with(read_json(path), str(path))

    def go_on_with(self, tree: dict[str, object], what: str) -> None:
        """The same with what stands in such a file; `what` names it in messages.

        Raises:
            ArtifactError: It is none that `save` writes.
        """
        messages = read_messages(tree, what)
        system = [one["content"] for one in messages if one["role"] == "system"]
        turns = [one for one in messages if one["role"] != "system"]
        if len(turns) % 2 or any(one["role"] != _ROLES[i % 2] for i, one in enumerate(turns)):
            raise ArtifactError(f"{what}: questions and answers do not take turns")
        self.clear()
        self.system = system[0] if system else None
        self.messages = turns

    def _opening(self) -> list[Message]:
        return [{"role": "system", "content": self.system}] if self.system else []

    def _answered(self, question: Message) -> Iterator[str]:
        """Ask, leaving out one turn more until the rest fits."""
        before = self.num_left_out
        while True:
            seen = [*self._opening(), *self.messages[self.num_left_out :], question]
            last = self.num_left_out >= len(self.messages)
            room = 1 if last else self.least_room
            pieces = self.ask_model(seen, self._sampling(), room)
            try:
                first = next(pieces)
            except StopIteration as end:
                self.answer = end.value
                return
            except PromptTooLong:
                if last:
                    self.num_left_out = before
                    raise
                self.num_left_out += 2
            else:
                break
        if self.num_left_out > before:
            self._say_what_is_left_out((self.num_left_out - before) // 2)
        yield first
        self.answer = yield from pieces

    def _sampling(self) -> Sampling:
        seed = (self.sampling.seed + self._num_retries) % MAX_SEED
        return replace(self.sampling, seed=seed)

    @property
    def least_room(self) -> int:
        """Tokens kept for an answer as long as something older can be left out."""
        return max(1, min(self.sampling.max_tokens, self.context_tokens // 4))

    def _say_what_is_left_out(self, num_turns: int) -> None:
        turns = "the oldest turn is" if num_turns == 1 else f"the {num_turns} oldest turns are"
        context = f"a context of {self.context_tokens:,} tokens"
        self.tell(Progress(num_turns, unit="turns", note=f"{turns} left out: {context} is full"))


def read_messages(tree: dict[str, object], what: str) -> list[Message]:
    """The turns of a JSON object that is not trusted.

    Raises:
        ArtifactError: They are no list of objects with `role` and `content`.
    """
    messages = tree.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ArtifactError(f"{what}: 'messages' is no list of turns")
    for number, one in enumerate(messages, 1):
        known = isinstance(one, dict) and one.get("role") in ("system", *_ROLES)
        if not known or not isinstance(one.get("content"), str):
            raise ArtifactError(
                f"{what}: turn {number} is no role (system, user, assistant) and content of text"
            )
    return [{"role": one["role"], "content": one["content"]} for one in messages]
