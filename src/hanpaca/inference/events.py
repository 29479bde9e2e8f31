"""Server-sent events of llama.cpp, passed on or joined into one answer.

Every answer is asked for as a stream, also one that is wanted as a whole: llama.cpp goes on with a
whole answer after its client has hung up, and only a stream ends with the connection.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from hanpaca.inference.requests import Body
from hanpaca.inference.start import ENGINE_NAME

_END = b"\n\n"
_DATA = b"data: "
_DONE = b"[DONE]"
_NOTHING = b"data: null\n\n"
_CUT = "\ufffd".encode()
"""llama.cpp's word for what is left of a character that the limit cut."""
_ENGINE = f'"model":"{ENGINE_NAME}"'.encode()
_OBJECTS = {"chat.completion.chunk": "chat.completion"}


async def renamed(chunks: AsyncIterator[bytes], model: str) -> AsyncIterator[bytes]:
    """The events as they come, whole ones only, with the name of the model that was asked."""
    # Inside a text the quotes are escaped, so this stands only where it is meant.
    name = b'"model":' + json.dumps(model, ensure_ascii=False).encode()
    async for events in _whole(chunks):
        if told := events.replace(_NOTHING, b"").replace(_CUT, b"").replace(_ENGINE, name):
            yield told


async def with_extra(
    events: AsyncIterator[bytes], extra: Mapping[str, Any]
) -> AsyncIterator[bytes]:
    """The events, of which the first has more fields."""
    begun = False
    async for one in events:
        if extra and not begun:
            begun = True
            more = json.dumps(extra, ensure_ascii=False)[:-1].encode()
            yield one.replace(_DATA + b"{", _DATA + more + b",", 1)
        else:
            yield one


async def joined(chunks: AsyncIterator[bytes], model: str, *, num_choices: int) -> tuple[int, Body]:
    """The answer that a stream amounts to, and its status.

    Args:
        chunks: As they come.
        model: As the client calls it.
        num_choices: Answers to one prompt; more come of several prompts.
    """
    answer: Body = {}
    choices: dict[int, Body] = {}
    used: list[Body] = []
    async for event in _parsed(chunks):
        if "error" in event:
            return int(event["error"].get("code", 500)), event
        for piece in event.pop("choices", ()):
            _add(choices.setdefault(piece["index"], {"index": piece["index"]}), piece)
        if "usage" in event:
            used.append(event.pop("usage"))
        answer.update(event)
    answer["object"] = _OBJECTS.get(answer.get("object", ""), answer.get("object"))
    in_order = [finished(choices[index]) for index in sorted(choices)]
    return 200, {**answer, "model": model, "choices": in_order, "usage": _sum(used, num_choices)}


def _sum(used: Sequence[Body], num_choices: int) -> Body:
    """llama.cpp counts each answer for itself; a prompt counts once for all of its answers."""
    written = sum(one["completion_tokens"] for one in used)
    read = sum(one["prompt_tokens"] for one in used) // num_choices
    counts = {"completion_tokens": written, "prompt_tokens": read, "total_tokens": read + written}
    return {**(used[0] if used else {}), **counts}


async def _parsed(chunks: AsyncIterator[bytes]) -> AsyncIterator[Body]:
    async for events in _whole(chunks):
        for line in events.split(_END):
            if line.startswith(_DATA) and not line.endswith(_DONE):
                event = json.loads(line.removeprefix(_DATA))
                if event is not None:
                    yield event


async def _whole(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Chunks that end where events end."""
    begun = b""
    async for chunk in chunks:
        events, end, begun = (begun + chunk).rpartition(_END)
        if end:
            yield events + end
    if begun:
        yield begun


def _add(choice: Body, piece: Mapping[str, Any]) -> None:
    """Grow a choice by what an event says of it."""
    if "text" in piece:
        choice["text"] = choice.get("text", "") + piece["text"]
    for key, value in piece.get("delta", {}).items():
        message = choice.setdefault("message", {"role": "assistant", "content": None})
        if key == "tool_calls":
            _add_calls(message.setdefault(key, []), value)
        elif key != "role" and value is not None:
            message[key] = (message.get(key) or "") + value
    if logprobs := piece.get("logprobs"):
        tokens = choice.setdefault("logprobs", {"content": []})
        tokens["content"] += logprobs["content"]
    if piece.get("finish_reason"):
        choice["finish_reason"] = piece["finish_reason"]


def _add_calls(calls: list[Body], pieces: list[Body]) -> None:
    for piece in pieces:
        while len(calls) <= piece["index"]:
            calls.append({"type": "function", "function": {"name": "", "arguments": ""}})
        call = calls[piece["index"]]
        function = piece.get("function", {})
        for key in ("name", "arguments"):
            call["function"][key] += function.get(key) or ""
        call.update({key: piece[key] for key in ("id", "type") if piece.get(key)})


def finished(choice: Body) -> Body:
    """A whole choice, with the fields that clients look for and without half a character."""
    whole = {"logprobs": None, "finish_reason": None, **choice}
    if "text" in whole:
        whole["text"] = _without_cut(whole["text"])
    elif content := whole.setdefault("message", {"role": "assistant"}).get("content"):
        whole["message"]["content"] = _without_cut(content)
    else:
        whole["message"].setdefault("content", "" if "tool_calls" not in whole["message"] else None)
    return whole


def _without_cut(text: str) -> str:
    return text.replace("\ufffd", "")
