"""A document is summarised in as many calls as its length takes, and what was said is not asked."""

import json
from pathlib import Path

import pytest

from hanpaca.data.asking import CHINESE
from hanpaca.errors import ArtifactError, DataError, RecipeError
from hanpaca.inference.engine import ChatModel, Messages, Pieces
from hanpaca.inference.sampling import Sampling
from hanpaca.progress import Progress
from hanpaca.steps.chat import Loading
from hanpaca.steps.summarise import DocumentSummary, Method, summarise
from tests.support.commands import hanpaca
from tests.support.scripted import ANSWER, END, scripted_model

SHORT = Sampling(max_tokens=24)
LOADING = Loading(context_tokens=1024, threads=1)
SENTENCES = [f"第{number}天下雨，河水又涨了一些。" for number in range(80)]


@pytest.fixture(scope="module")
def model(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripted_model(pico_base, tmp_path_factory.mktemp("scripted") / "short", last=END)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every prompt that was answered."""
    found: list[str] = []
    stream = ChatModel.stream

    def overheard(
        one: ChatModel, messages: Messages, sampling: Sampling, *, least_room: int
    ) -> Pieces:
        if least_room == 1:
            found.append(messages[0]["content"])
        return stream(one, messages, sampling, least_room=least_room)

    monkeypatch.setattr(ChatModel, "stream", overheard)
    return found


def document(folder: Path, num_sentences: int) -> Path:
    path = folder / "rain.txt"
    path.write_text("".join(SENTENCES[:num_sentences]), encoding="utf-8")
    return path


def made(folder: Path, model: Path, num_sentences: int, method: Method) -> DocumentSummary:
    return summarise(
        document(folder, num_sentences),
        folder / "short.txt",
        model=model,
        method=method,
        sampling=SHORT,
        loading=LOADING,
    )


@pytest.mark.parametrize(
    ("num_sentences", "method", "found", "least_calls"),
    [
        (3, "auto", "stuff", 1),
        (3, "map_reduce", "map_reduce", 2),
        (30, "auto", "refine", 2),
        (80, "auto", "map_reduce", 6),
    ],
)
def test_the_length_says_how_and_every_sentence_is_read(
    tmp_path: Path,
    model: Path,
    asked: list[str],
    num_sentences: int,
    method: Method,
    found: str,
    least_calls: int,
) -> None:
    summary = made(tmp_path, model, num_sentences, method)
    assert (summary.method, summary.text, summary.num_kept) == (found, ANSWER, 0)
    assert summary.num_calls == len(asked) >= least_calls
    assert (tmp_path / "short.txt").read_text(encoding="utf-8") == ANSWER + "\n"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["rain.txt", "short.txt"]
    for sentence in SENTENCES[:num_sentences]:
        assert any(sentence in prompt for prompt in asked)
    if found == "refine":
        assert ANSWER not in asked[0]
        assert all(prompt.startswith(CHINESE.refined[:6]) for prompt in asked[1:])
        assert all(ANSWER in prompt for prompt in asked[1:])
    if found == "map_reduce":
        notes = "\n\n".join([ANSWER] * summary.num_parts)
        assert asked[-1] == CHINESE.whole.format(text=notes)


def test_an_interrupted_summary_goes_on_with_the_answers_it_had(
    tmp_path: Path, model: Path, asked: list[str]
) -> None:
    def stop_after_two(progress: Progress) -> None:
        if progress.unit == "parts" and progress.done == 2:
            raise KeyboardInterrupt

    given = {"model": model, "sampling": SHORT, "loading": LOADING}
    file, output = document(tmp_path, 80), tmp_path / "short.txt"
    with pytest.raises(KeyboardInterrupt):
        summarise(file, output, tell=stop_after_two, **given)  # type: ignore[arg-type]
    calls = tmp_path / "short.txt.partial/calls.jsonl"
    assert len(calls.read_text(encoding="utf-8").splitlines()) == len(asked) == 2
    with calls.open("a", encoding="utf-8") as stream:
        stream.write('{"prompt": "half')
    summary = summarise(file, output, **given)  # type: ignore[arg-type]
    assert (summary.num_kept, len(asked)) == (2, summary.num_calls)
    assert len(set(asked)) == len(asked)
    with pytest.raises(ArtifactError, match="already exists"):
        summarise(file, output, **given)  # type: ignore[arg-type]


def test_what_cannot_be_summarised_is_said(tmp_path: Path, model: Path) -> None:
    with pytest.raises(RecipeError, match="too many to be read as a whole: give another method="):
        made(tmp_path, model, 80, "stuff")
    (tmp_path / "empty.txt").touch()
    with pytest.raises(DataError, match="no text in it"):
        summarise(tmp_path / "empty.txt", tmp_path / "b", model=model)
    with pytest.raises(DataError, match="no such file"):
        summarise(tmp_path / "none.txt", tmp_path / "b", model=model)
    with pytest.raises(DataError, match="is a folder: give one file of it"):
        summarise(tmp_path, tmp_path / "b", model=model)
    tiny = Loading(context_tokens=256, threads=1)
    with pytest.raises(RecipeError, match="no room for a part"):
        summarise(document(tmp_path, 80), tmp_path / "b", model=model, loading=tiny, sampling=SHORT)
    with pytest.raises(DataError, match="ascii"):
        summarise(tmp_path / "rain.txt", tmp_path / "b", model=model, encoding="ascii")
    left = sorted(one.name for one in tmp_path.iterdir())
    assert left == ["empty.txt", "rain.txt"]


def test_the_command_prints_what_it_writes(tmp_path: Path, model: Path) -> None:
    file = document(tmp_path, 3)
    words = ["summarise", file, "--model", model, "--threads", 1, "-o", tmp_path / "s.txt"]
    done = hanpaca(*words, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "text": ANSWER,
        "method": "stuff",
        "num_parts": 1,
        "num_calls": 1,
        "num_kept": 0,
    }
    assert "read (1 of 1 parts)" in done.stderr
