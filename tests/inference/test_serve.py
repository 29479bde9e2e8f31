"""A live server, asked as programs ask it: with OpenAI's own client."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx2
import numpy as np
import pytest

from tests.support.scripted import ANSWER, END, scripted_model
from tests.support.serving import Served, served

openai = pytest.importorskip("openai")
pytest.importorskip("starlette")
ASKED: Any = [{"role": "user", "content": "问"}]


@pytest.fixture(scope="module")
def server(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """It answers with `ANSWER` to everything."""
    folder = tmp_path_factory.mktemp("scripted")
    file = scripted_model(pico_base, folder / "short", last=END)
    words = ("--embeddings", "--context-tokens", "256", "--num-parallel", "2")
    with served(file, *words, "--api-key", "secret") as one:
        yield one


@pytest.fixture
def client(server: Served) -> Iterator[Any]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="secret", max_retries=0) as one:
        yield one


def test_the_model_is_listed_and_described(client: Any) -> None:
    (one,) = client.models.list().data
    assert (one.id, one.owned_by) == ("short", "hanpaca")
    assert client.models.retrieve("short") == one


def test_a_chat_is_answered(client: Any) -> None:
    reply = client.chat.completions.create(model="short", messages=ASKED, temperature=0)
    (choice,) = reply.choices
    assert (choice.message.role, choice.message.content) == ("assistant", ANSWER)
    assert (choice.finish_reason, reply.model, reply.object) == ("stop", "short", "chat.completion")
    assert reply.usage.completion_tokens == 10
    assert reply.usage.total_tokens == 10 + reply.usage.prompt_tokens


def test_a_stream_has_the_same_text_and_usage(client: Any) -> None:
    events = list(
        client.chat.completions.create(
            model="short",
            messages=ASKED,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert {one.model for one in events} == {"short"}
    said = [one.choices[0].delta.content for one in events if one.choices]
    assert [piece for piece in said if piece] == list(ANSWER)
    assert events[-1].usage.completion_tokens == 10


def test_a_text_is_continued_and_several_are(client: Any) -> None:
    one = client.completions.create(model="short", prompt="\n", temperature=0)
    assert (one.choices[0].text, one.object) == (ANSWER, "text_completion")
    many = client.completions.create(model="short", prompt=["\n", "\n"], temperature=0, n=1)
    assert [(c.index, c.text) for c in many.choices] == [(0, ANSWER), (1, ANSWER)]
    assert (many.usage.completion_tokens, many.usage.prompt_tokens) == (20, 2)
    stream = client.completions.create(model="short", prompt=["\n", "\n"], stream=True, seed=-1)
    said = ["", ""]
    for event in stream:
        said[event.choices[0].index] += event.choices[0].text
    assert said == [ANSWER, ANSWER]


def test_an_answer_ends_before_a_stop(client: Any) -> None:
    for stop in ("秋", ["x", "秋"]):
        reply = client.chat.completions.create(model="short", messages=ASKED, stop=stop)
        assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == (
            "你春",
            "stop",
        )


def test_two_answers_to_one_question(client: Any) -> None:
    reply = client.chat.completions.create(model="short", messages=ASKED, n=2, temperature=0)
    assert [one.index for one in reply.choices] == [0, 1]
    assert [one.message.content for one in reply.choices] == [ANSWER, ANSWER]
    one = client.chat.completions.create(model="short", messages=ASKED, max_tokens=1)
    assert (reply.usage.completion_tokens, reply.usage.prompt_tokens) == (
        20,
        one.usage.prompt_tokens,
    )


def test_probabilities_are_of_every_token(client: Any) -> None:
    reply = client.chat.completions.create(
        model="short", messages=ASKED, logprobs=True, top_logprobs=2, max_tokens=6
    )
    tokens = reply.choices[0].logprobs.content
    assert b"".join(bytes(one.bytes) for one in tokens) == ANSWER[:2].encode()
    assert all(len(one.top_logprobs) == 2 and one.logprob == 0 for one in tokens)
    assert reply.choices[0].message.content == ANSWER[:2]


def test_half_a_character_is_left_out(client: Any) -> None:
    for most, said in ((5, "你"), (6, "你春")):
        asked: dict[str, Any] = {"model": "short", "messages": ASKED, "max_tokens": most}
        reply = client.chat.completions.create(**asked)
        assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == (
            said,
            "length",
        )
        events = client.chat.completions.create(**asked, stream=True)
        assert "".join(e.choices[0].delta.content or "" for e in events if e.choices) == said


def test_an_answer_keeps_to_a_schema(client: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"词": {"enum": ["春", "秋"]}, "n": {"type": "integer", "maximum": 9}},
        "required": ["词", "n"],
        "additionalProperties": False,
    }
    reply = client.chat.completions.create(
        model="short",
        messages=ASKED,
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
        temperature=1,
    )
    found = json.loads(reply.choices[0].message.content)
    assert set(found) == {"词", "n"}
    assert found["词"] in ("春", "秋")


def test_an_answer_keeps_to_a_grammar(client: Any) -> None:
    more = {"grammar": 'root ::= "秋水" "😀"'}
    reply = client.chat.completions.create(model="short", messages=ASKED, extra_body=more)
    assert reply.choices[0].message.content == "秋水😀"


def test_texts_get_vectors(client: Any) -> None:
    reply = client.embeddings.create(model="short", input=["春", "春", "one two"])
    first, again, other = (np.array(one.embedding) for one in reply.data)
    assert len(first) == 400
    np.testing.assert_allclose(first, again, atol=1e-6)
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-3)
    assert not np.allclose(first, other)
    packed = client.embeddings.create(model="short", input="春", encoding_format="base64")
    values = np.frombuffer(base64.b64decode(packed.data[0].embedding), "<f4")
    np.testing.assert_allclose(values, first, atol=1e-6)
    assert packed.model == "short"


def test_a_wrong_key_and_an_unknown_model_are_the_clients_own_errors(
    server: Served, client: Any
) -> None:
    stranger = openai.OpenAI(base_url=server.url + "/v1", api_key="guess", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt'; there are: short"):
        client.chat.completions.create(model="gpt", messages=ASKED)
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt'"):
        client.models.retrieve("gpt")
    assert httpx2.get(server.url + "/health", timeout=120).json() == {"status": "ok"}
    assert httpx2.get(server.url + "/metrics", timeout=120).status_code == 401


TURN = ASKED[0]
MALFORMED: list[dict[str, Any]] = [
    {"messages": []},
    {"messages": None},
    {"messages": "问"},
    {"messages": [5]},
    {"messages": [{"role": "wizard", "content": "问"}]},
    {"messages": [{"content": "问"}]},
    {"messages": [{"role": "user"}]},
    {"messages": [{"role": "user", "content": 5}]},
    {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
    {"temperature": -1},
    {"temperature": "hot"},
    {"temperature": True},
    {"top_p": 7},
    {"min_p": -0.1},
    {"top_k": 1.5},
    {"repeat_penalty": 0},
    {"presence_penalty": 9},
    {"frequency_penalty": "a"},
    {"n": 0},
    {"n": 3},
    {"max_tokens": 0},
    {"max_tokens": -5},
    {"max_completion_tokens": "x"},
    {"seed": "s"},
    {"stop": 5},
    {"stop": [1]},
    {"stop": [""]},
    {"stream": "yes"},
    {"stream_options": 1},
    {"logprobs": "x"},
    {"top_logprobs": 99},
    {"logit_bias": "x"},
    {"response_format": 5},
    {"response_format": {"type": "x"}},
    {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "none"}}}},
    {"grammar": 'root ::= "a'},
    {"tools": 5},
    {"model": 7},
]


@pytest.mark.parametrize("wrong", MALFORMED, ids=lambda one: json.dumps(one)[:60])
def test_a_malformed_body_is_refused(client: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.post(
            "/chat/completions",
            body={"model": "short", "messages": ASKED, **wrong},
            cast_to=cast(Any, object),
        )
    told = refused.value.body
    assert {"message", "type", "param", "code"} == set(told)
    assert told["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/completions", {}),
        ("/completions", {"prompt": []}),
        ("/completions", {"prompt": [1.5]}),
        ("/completions", {"prompt": [999_999]}),
        ("/completions", {"prompt": "a", "echo": True}),
        ("/completions", {"prompt": "a", "logprobs": True}),
        ("/embeddings", {}),
        ("/embeddings", {"input": ""}),
        ("/embeddings", {"input": [[]]}),
        ("/embeddings", {"input": "a", "encoding_format": "x"}),
        ("/embeddings", {"input": "a", "dimensions": 3}),
        ("/embeddings", {"input": "word " * 2000}),
        ("/chat/completions", {"messages": [{**TURN, "content": "word " * 2000}]}),
    ],
    ids=lambda one: str(one)[:60],
)
def test_so_it_is_on_every_route(client: Any, route: str, body: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError):
        client.post(route, body={"model": "short", **body}, cast_to=cast(Any, object))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'{"messages": [',
        b'{"temperature": NaN, "messages": [{"role": "user", "content": "a"}]}',
        b'{"messages": [{"role": "user", "content": "\xff"}]}',
        rb'{"messages": [{"role": "user", "content": "\ud83d"}]}',
        b'{"messages": ' + b"[" * 100_000,
        b'{"messages": ' + b"[" * 90 + b"]" * 90 + b"}",
        b'{"messages": "' + b"a" * 2_100_000 + b'"}',
    ],
    ids=lambda content: str(content[:50]),
)
def test_a_body_that_is_no_json_object_is_refused(server: Served, content: bytes) -> None:
    headers = {"Authorization": "Bearer secret"}
    reply = httpx2.post(
        server.url + "/v1/chat/completions", content=content, headers=headers, timeout=120
    )
    assert reply.status_code == 400
    assert reply.json()["error"]["type"] == "invalid_request_error"


def test_what_is_not_there_is_said_in_json(server: Served) -> None:
    headers = {"Authorization": "Bearer secret"}
    missing = httpx2.get(server.url + "/v1/nothing", headers=headers, timeout=120)
    assert (missing.status_code, missing.json()["error"]["message"]) == (
        404,
        "there is no /v1/nothing",
    )
    wrong = httpx2.get(server.url + "/v1/chat/completions", headers=headers, timeout=120)
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, None)
    for closed in ("/props", "/slots", "/lora-adapters", "/completion", "/"):
        assert httpx2.get(server.url + closed, headers=headers, timeout=120).status_code == 404


def test_fields_that_are_null_are_as_not_said(client: Any) -> None:
    reply = client.post(
        "/chat/completions",
        body={"messages": [{**TURN, "role": "developer"}, TURN], "stop": None, "temperature": None},
        cast_to=cast(Any, object),
    )
    assert reply["choices"][0]["message"]["content"] == ANSWER
