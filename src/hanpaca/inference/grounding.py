"""Answers from documents: what a model is asked in place of a question, whatever the way.

Where the passages are too long together for the model's context, fewer are given, the best ones.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, cast

from hanpaca.inference.engine import Answer, Messages, Pieces, PromptTooLong
from hanpaca.inference.sampling import Sampling
from hanpaca.inference.session import Asked as AskedModel

_NUMBERS = count()


@dataclass(frozen=True)
class Grounding:
    """What a question is answered from."""

    sources: Sequence[dict[str, Any]]
    """JSON-safe, in the order of their numbers."""
    prompts: Sequence[str]
    """With all of them, with all but the last, and so on; none where no source is like the
    question."""
    nothing: str
    """What is said then, and no model is asked."""


Ground = Callable[[str], Grounding]


def _nobody(*_: object) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Answering:
    """A way to ask a model that puts a prompt with passages in place of the last message."""

    ask: AskedModel
    ground: Ground
    room: int = 1
    """Tokens kept for the answer as long as there is a passage that can be left out."""
    found: Callable[[Sequence[dict[str, Any]]], object] = _nobody
    """Told the sources that the model gets, before it says anything."""
    left_out: Callable[[int, PromptTooLong], object] = _nobody
    """Told the number of each passage that has no room."""

    def __call__(self, messages: Messages, sampling: Sampling, least_room: int) -> Pieces:
        """See `ChatModel.stream`.

        Raises:
            PromptTooLong: Not even one passage fits into the context.
        """
        found = self.ground(messages[-1]["content"])
        if not found.prompts:
            yield found.nothing
            return Answer(found.nothing, 0, 0.0, stopped=True)
        prompts = list(found.prompts)
        while True:
            prompt = {"role": "user", "content": prompts.pop(0)}
            room = max(least_room, self.room) if prompts else least_room
            pieces = self.ask([*messages[:-1], prompt], sampling, room)
            try:
                first = next(pieces)
            except StopIteration as end:
                return cast(Answer, end.value)
            except PromptTooLong as error:
                if not prompts:
                    raise
                self.left_out(len(prompts) + 1, error)
            else:
                self.found(found.sources[: len(prompts) + 1])
                yield first
                return (yield from pieces)


def said(text: str, model: str, sources: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """An answer that no model gave, as OpenAI's API has one."""
    counts = dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), 0)
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    told = {"id": f"nothing-{next(_NUMBERS)}", "created": int(time.time()), "model": model}
    whole = {"object": "chat.completion", "choices": [choice], "usage": counts}
    return {**told, **whole, "sources": list(sources)}
