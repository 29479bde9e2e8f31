"""Answers from documents at OpenAI's API: the sources stand in a field `sources` of the reply."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import anyio.to_thread
from starlette.types import Send

from hanpaca.errors import HanpacaError
from hanpaca.inference.grounding import Ground, Grounding, said
from hanpaca.inference.relay import Asked, send_events, send_json
from hanpaca.inference.requests import Body, Refused


async def grounded_request(asked: Asked, ground: Ground, context_tokens: int) -> "Asked | str":
    """What is asked with passages in place of the last message, or what is said without a model.

    Args:
        asked: By the client.
        ground: Looks passages up.
        context_tokens: Of a conversation; a quarter of it is kept for the answer, as long as there
            is a passage that can be left out.

    Raises:
        Refused: The last message is no question, or nothing can be looked up.
    """
    *before, last = asked.body["messages"]
    question = _text(last["content"]) if last["role"] == "user" else ""
    if not question.strip():
        raise Refused("the last message must be a question of the user", param="messages")
    try:
        found: Grounding = await anyio.to_thread.run_sync(ground, question)
    except HanpacaError as error:
        raise Refused(f"the documents cannot be asked: {error.message}", status=500) from error
    if not found.prompts:
        return found.nothing
    shorter: Asked | None = None
    room = min(context_tokens // 4, asked.body.get("max_tokens") or context_tokens)
    for number, prompt in enumerate(reversed(found.prompts), start=1):
        messages = [*before, {"role": "user", "content": prompt}]
        body: Body = {**asked.body, "messages": messages}
        extra = {"sources": list(found.sources[:number])}
        shorter = replace(
            asked,
            body=body,
            extra=extra,
            shorter=shorter,
            most_prompt_tokens=context_tokens - room,
        )
    return shorter or found.nothing


async def send_said(send: Send, asked: Asked, text: str) -> None:
    """Answer with what no model said, as the client wants it."""
    whole = said(text, asked.model, ())
    if not asked.streams:
        await send_json(send, 200, whole)
        return

    async def events() -> AsyncIterator[bytes]:
        for piece in _pieces(whole, text):
            yield b"data: " + json.dumps(piece, ensure_ascii=False).encode() + b"\n\n"
        yield b"data: [DONE]\n\n"

    await send_events(send, events())


def _pieces(whole: Body, text: str) -> Sequence[Body]:
    told = {name: whole[name] for name in ("id", "created", "model")}
    head: Body = {**told, "object": "chat.completion.chunk"}
    delta = {"role": "assistant", "content": text}
    first = {"index": 0, "delta": delta, "finish_reason": None}
    last: dict[str, Any] = {"index": 0, "delta": {}, "finish_reason": "stop"}
    return [{**head, "choices": [first], "sources": []}, {**head, "choices": [last]}]


def _text(content: object) -> str:
    """Of a message, whose parts were checked to be texts."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content)
    return str(content)
