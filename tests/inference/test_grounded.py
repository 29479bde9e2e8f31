"""Answers from documents at OpenAI's API: grounded, with sources beside them, or refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hanpaca.data.asking import CHINESE
from hanpaca.steps.ask_add import ask_add
from tests.support.commands import hanpaca
from tests.support.scripted import ANSWER
from tests.support.serving import Served, served

openai = pytest.importorskip("openai")
pytest.importorskip("starlette")
TEA = "龙井茶产于杭州，是绿茶。"
NAME = "short+documents"


@pytest.fixture(scope="module")
def server(scripted_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("documents")
    (folder / "tea.txt").write_text(TEA, encoding="gb18030")
    parts = [f"红茶第{number}节说的是红茶的制法。" + "长" * 90 for number in range(6)]
    (folder / "long.txt").write_text("\n".join(parts), encoding="utf-8")
    for number in range(5):
        white = f"白茶第{number}种说的是白茶的产地。" + "短" * 80
        (folder / f"white{number}.txt").write_text(white, encoding="utf-8")
    index = folder / "i.sqlite"
    ask_add([folder], index)
    with served(scripted_gguf, "--documents", str(index), "--context-tokens", "2048") as one:
        yield one


@pytest.fixture
def client(server: Served) -> Iterator[Any]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as one:
        yield one


def asking(question: str) -> dict[str, Any]:
    return {"model": NAME, "messages": [{"role": "user", "content": question}], "temperature": 0}


def test_a_model_has_a_second_name_that_answers_from_documents(client: Any) -> None:
    assert [one.id for one in client.models.list().data] == ["short", NAME]
    reply = client.chat.completions.create(**asking("龙井茶产于哪里？"))
    assert (reply.choices[0].message.content, reply.model) == (ANSWER, NAME)
    (source,) = reply.sources
    assert (source["number"], source["unit"], source["place"]) == (1, "line", 1)
    assert source["path"].endswith("tea.txt")
    assert source["text"] == TEA
    alone = client.chat.completions.create(**{**asking("龙井茶产于哪里？"), "model": "short"})
    assert alone.usage.prompt_tokens < reply.usage.prompt_tokens
    assert not hasattr(alone, "sources")


def test_a_stream_tells_its_sources_first(client: Any) -> None:
    events = list(client.chat.completions.create(**asking("龙井茶产于哪里？"), stream=True))
    assert [one["text"] for one in events[0].sources] == [TEA]
    assert not any(hasattr(one, "sources") for one in events[1:])
    said = [one.choices[0].delta.content or "" for one in events if one.choices]
    assert "".join(said) == ANSWER


def test_what_is_in_no_document_is_said_without_asking_the_model(client: Any) -> None:
    reply = client.chat.completions.create(**asking("股票市场如何？"))
    assert reply.choices[0].message.content == CHINESE.nothing
    assert (reply.usage.total_tokens, reply.sources) == (0, [])
    events = list(client.chat.completions.create(**asking("股票市场如何？"), stream=True))
    assert events[0].choices[0].delta.content == CHINESE.nothing
    assert events[-1].choices[0].finish_reason == "stop"


def test_passages_without_room_are_left_out_of_the_sources(client: Any) -> None:
    reply = client.chat.completions.create(**asking("红茶的制法"))
    assert reply.choices[0].message.content == ANSWER
    assert 1 <= len(reply.sources) < 5


def test_what_cannot_be_grounded_is_refused(client: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="alone"):
        client.completions.create(model=NAME, prompt="龙井")
    asked = [{"role": "user", "content": "龙井"}, {"role": "assistant", "content": "茶"}]
    with pytest.raises(openai.BadRequestError, match="must be a question"):
        client.chat.completions.create(model=NAME, messages=asked)
    with pytest.raises(openai.BadRequestError, match="content is missing"):
        client.chat.completions.create(model=NAME, messages=[{"role": "user"}])


def test_an_index_that_is_none_is_told_before_a_model_is_served(
    scripted_gguf: Path, tmp_path: Path
) -> None:
    done = hanpaca("serve", scripted_gguf, "--port", 0, "--documents", tmp_path / "no.sqlite")
    assert done.returncode == 4
    assert "no index of documents: make one with `hanpaca ask add`" in done.stderr


def test_passages_leave_a_quarter_of_the_context_or_what_the_answer_may_take(client: Any) -> None:
    long, short = (
        client.chat.completions.create(**asking("白茶的产地"), max_tokens=most) for most in (900, 4)
    )
    assert 1024 < long.usage.prompt_tokens <= 2048 - 512
    assert 2048 - 512 < short.usage.prompt_tokens <= 2048 - 4
    assert 1 < len(long.sources) < len(short.sources)
