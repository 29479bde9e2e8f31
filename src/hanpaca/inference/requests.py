"""What a client may ask: the checks that llama.cpp's server leaves out.

It answers an empty conversation, an unknown role, a temperature below zero and a model that is not
there as if nothing were wrong. Source: https://platform.openai.com/docs/api-reference/chat
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

Body = dict[str, Any]
_ROLES = ("system", "developer", "user", "assistant", "tool")
_MOST_DEPTH = 64
"""Of brackets in brackets: llama.cpp turns a schema into a grammar by recursion."""
_MOST_LOGPROBS = 20
_MOST_SEED = 2**32 - 1


class Refused(Exception):  # noqa: N818  # an answer to a client, never shown as an error of ours
    """A request that is answered with an error, as OpenAI's API words them."""

    def __init__(
        self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code

    def body(self) -> Body:
        """As JSON is sent."""
        return error_body(str(self), self.status, param=self.param, code=self.code)


def error_body(
    message: str, status: int, *, param: str | None = None, code: str | None = None
) -> Body:
    """An error as OpenAI's API has it."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


@dataclass(frozen=True)
class Defaults:
    """What a request gets that does not say otherwise."""

    repeat_penalty: float | None = 1.1
    """None for what the file says of itself."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer, beside those of the request."""


def parsed(data: bytes) -> Body:
    """Read a body.

    Raises:
        Refused: It is no JSON object.
    """
    try:
        body = json.loads(data.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refused(f"the body is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise Refused("the body must be a JSON object")
    if _depth(body) > _MOST_DEPTH:
        raise Refused(f"the body nests deeper than {_MOST_DEPTH}")
    return body


def encoded(body: Mapping[str, Any]) -> bytes:
    """Write a body.

    Raises:
        Refused: A text holds half a surrogate pair, which is no character.
    """
    try:
        return json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise Refused("a text holds half a surrogate pair, which is no character") from error


def chat_request(body: Body, defaults: Defaults, *, most_choices: int) -> Body:
    """What llama.cpp is asked for `/v1/chat/completions`.

    Raises:
        Refused: A field is of the wrong type or out of its range.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        _refuse("messages", "must be a list of at least one message")
    for number, message in enumerate(messages):
        _check_message(message, f"messages[{number}]")
    _check_fields(body, {**_SAMPLING, **_CHAT}, most_choices)
    asked = [{**one, "role": "system"} if one["role"] == "developer" else one for one in messages]
    return _with_defaults({**body, "messages": asked}, defaults)


def completion_request(body: Body, defaults: Defaults, *, most_choices: int) -> Body:
    """What llama.cpp is asked for `/v1/completions`; see `chat_request`."""
    _check_texts(body, "prompt")
    _check_fields(body, {**_SAMPLING, **_COMPLETION}, most_choices)
    return _with_defaults(body, defaults)


def embedding_request(body: Body) -> Body:
    """What llama.cpp is asked for `/v1/embeddings`; see `chat_request`."""
    _check_texts(body, "input")
    if body.get("encoding_format", "float") not in ("float", "base64"):
        _refuse("encoding_format", "must be 'float' or 'base64'")
    if body.get("dimensions") is not None:
        _refuse("dimensions", "cannot be chosen: the model's size is given")
    return body


def _with_defaults(body: Body, defaults: Defaults) -> Body:
    asked = dict(body)
    if defaults.repeat_penalty is not None:
        asked.setdefault("repeat_penalty", defaults.repeat_penalty)
    stop = asked.get("stop") or []
    stops = [stop] if isinstance(stop, str) else list(stop)
    if stops or defaults.stop:
        asked["stop"] = [*stops, *defaults.stop]
    if isinstance(seed := asked.get("seed"), int):
        asked["seed"] = seed % _MOST_SEED  # the next number means "any"
    # Null is "as if not said", which llama.cpp does not know of every field.
    return {name: value for name, value in asked.items() if value is not None}


def _check_message(message: object, where: str) -> None:
    if not isinstance(message, dict):
        _refuse(where, "must be an object")
    if message.get("role") not in _ROLES:
        _refuse(f"{where}.role", f"must be one of {', '.join(_ROLES)}")
    content = message.get("content")
    if isinstance(content, list):
        for part in content:
            _check_part(part, f"{where}.content")
    elif content is None:
        if message["role"] != "assistant" or not message.get("tool_calls"):
            _refuse(f"{where}.content", "is missing")
    elif not isinstance(content, str):
        _refuse(f"{where}.content", "must be text or a list of parts")


def _check_part(part: object, where: str) -> None:
    if not isinstance(part, dict) or part.get("type") != "text":
        _refuse(where, "holds a part that is no text; this model reads nothing else")
    if not isinstance(part.get("text"), str):
        _refuse(where, "holds a part of type text without its text")


def _check_texts(body: Body, name: str) -> None:
    """A text, a list of ids, or a list of either."""
    value = body.get(name)
    many = value if isinstance(value, list) and not _is_ids(value) else [value]
    if not many or not all(isinstance(one, str) or _is_ids(one) for one in many):
        _refuse(name, "must be a text, a list of texts, or token ids")
    if name == "input" and "" in many:
        _refuse(name, "holds an empty text")


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_int(one) for one in value)


def _check_fields(body: Body, wanted: Mapping[str, "_Field"], most_choices: int) -> None:
    for name, (fits, told) in wanted.items():
        if (value := body.get(name)) is not None and not fits(value):
            _refuse(name, told)
    if (choices := body.get("n")) is not None and not _whole(1, most_choices)[0](choices):
        _refuse("n", f"must be a whole number from 1 to {most_choices}")


_Field = tuple[Callable[[Any], bool], str]


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return (_is_int(value) or isinstance(value, float)) and math.isfinite(value)  # type: ignore[arg-type]


def _number(least: float, most: float) -> _Field:
    told = f"must be a number from {least:g} to {most:g}"
    return lambda value: _is_number(value) and least <= value <= most, told


def _whole(least: int, most: int) -> _Field:
    told = f"must be a whole number from {least} to {most}"
    return lambda value: _is_int(value) and least <= value <= most, told


def _of(kind: type, told: str) -> _Field:
    return lambda value: isinstance(value, kind), told


def _is_stop(value: object) -> bool:
    texts = value if isinstance(value, list) else [value]
    return all(isinstance(one, str) and one for one in texts)


def _is_bias(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(one, list) and len(one) == 2 for one in value)
    return isinstance(value, dict) and all(_is_number(one) for one in value.values())


def _is_format(value: object) -> bool:
    return isinstance(value, dict) and value.get("type") in ("text", "json_object", "json_schema")


_TOKENS = _whole(1, 2**31 - 1)
_OPTIONS: _Field = (
    lambda value: isinstance(value, dict) and isinstance(value.get("include_usage", False), bool),
    "must be an object such as {'include_usage': true}",
)
_SAMPLING: Mapping[str, _Field] = {
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "min_p": _number(0, 1),
    "top_k": _whole(0, 2**31 - 1),
    "repeat_penalty": (lambda value: _is_number(value) and 0 < value <= 10, "must be in (0, 10]"),
    "presence_penalty": _number(-2, 2),
    "frequency_penalty": _number(-2, 2),
    "max_tokens": _TOKENS,
    "seed": _whole(-(2**63), 2**63 - 1),
    "stop": (_is_stop, "must be a text or a list of texts, none of them empty"),
    "stream": _of(bool, "must be true or false"),
    "stream_options": _OPTIONS,
    "logit_bias": (_is_bias, "must be an object of token ids and numbers"),
    "grammar": _of(str, "must be a text"),
    "json_schema": _of(dict, "must be an object"),
    "response_format": (_is_format, "must be an object of type text, json_object or json_schema"),
}
_CHAT: Mapping[str, _Field] = {
    "max_completion_tokens": _TOKENS,
    "logprobs": _of(bool, "must be true or false"),
    "top_logprobs": _whole(0, _MOST_LOGPROBS),
    "tools": _of(list, "must be a list"),
}
_COMPLETION: Mapping[str, _Field] = {
    "logprobs": _whole(0, _MOST_LOGPROBS),
    "echo": (lambda value: value is False, "is not given by this model"),
    "suffix": (lambda value: value == "", "is not given by this model"),
}


def _refuse(param: str, told: str) -> NoReturn:
    raise Refused(f"{param} {told}", param=param)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _depth(tree: object) -> int:
    """How deep brackets nest; without recursion, which is what this guards."""
    level, depth = [tree], 0
    while level:
        depth += 1
        inner = [one for one in level if isinstance(one, dict | list)]
        level = [
            child for one in inner for child in (one.values() if isinstance(one, dict) else one)
        ]
    return depth
