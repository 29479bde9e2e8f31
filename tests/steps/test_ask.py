"""Documents are read into an index once, odd ones named; answers come from them or not at all."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hanpaca import Documents, IndexSettings
from hanpaca.data.asking import CHINESE
from hanpaca.errors import ArtifactError, DataError, RecipeError
from hanpaca.inference.engine import Messages, Pieces, PromptTooLong
from hanpaca.inference.retrieval.index import Index
from hanpaca.progress import Progress
from hanpaca.sections import RecipeSection
from hanpaca.steps import ask_add as adding
from hanpaca.steps.ask_add import ask_add
from hanpaca.steps.chat import Loading, Sampling
from tests.support.papers import write_docx, write_epub, write_pdf
from tests.support.scripted import ANSWER, END, scripted_model
from tests.support.texts import POEMS

TEA = "龙井茶产于杭州，是绿茶。"


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files made just now count as old ones."""
    monkeypatch.setattr(adding, "_SETTLED_NS", 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "papers"
    path.mkdir()
    (path / "tea.txt").write_text(TEA, encoding="utf-8")
    (path / "poem.md").write_text(POEMS[0], encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def scripted(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripted_model(pico_base, tmp_path_factory.mktemp("scripted") / "short", last=END)


def test_every_odd_file_is_one_line_and_the_rest_is_read(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pypdf")
    simplified, traditional = "人工智能改变世界。" * 3, "電腦程式設計是一門藝術。" * 3
    (folder / "gb.txt").write_text(simplified, encoding="gb18030")
    (folder / "big5.txt").write_text(traditional, encoding="big5")
    (folder / "wide.txt").write_text("量子力学。", encoding="utf-16")
    write_docx(folder / "a.docx", ["大模型微调"])
    write_epub(folder / "a.epub", ["红楼梦第一回", "红楼梦第二回"])
    write_pdf(folder / "a.pdf", ["", "光合作用"])
    odd = {"scan.pdf", "locked.pdf", "empty.txt", "damaged.txt", "large.txt", "bad.jsonl", "up"}
    write_pdf(folder / "scan.pdf", [""])
    write_pdf(folder / "locked.pdf", ["密"], password="secret")
    (folder / "empty.txt").touch()
    (folder / "damaged.txt").write_bytes("白日".encode() + b"\xff\xff" + "依山".encode())
    with (folder / "large.txt").open("wb") as large:
        large.truncate(500_000_000)
    (folder / "bad.jsonl").write_text('{"text": "一"}\n{"title": "二"}\n', encoding="utf-8")
    (folder / "up").symlink_to(".")
    (folder / "table.xls").touch()
    index = tmp_path / "i.sqlite"
    report = ask_add([folder], index)
    named = [note.split(":")[0].rpartition("/")[2] for note in report.notes]
    assert sorted(named) == sorted([*odd, "a.pdf", "passed over, of other kinds"])
    assert (report.num_read, report.num_unreadable) == (9, 5)
    with Documents(index) as documents:
        found = {
            word: [
                f"{Path(one.path).name} {one.unit} {one.place}" for one in documents.search(word)
            ]
            for word in (
                "人工智能",
                "程式設計",
                "量子力学",
                "大模型",
                "第二回",
                "光合作用",
                "黄河入海",
            )
        }
    assert [places[0] for places in found.values()] == [
        "gb.txt line 1",
        "big5.txt line 1",
        "wide.txt line 1",
        "a.docx paragraph 1",
        "a.epub chapter 2",
        "a.pdf page 2",
        "poem.md line 1",
    ]
    again = ask_add([folder], index)
    assert sorted(again.notes) == sorted(report.notes)


@pytest.mark.usefixtures("settled")
def test_only_what_changed_is_read_and_what_is_gone_leaves(folder: Path, tmp_path: Path) -> None:
    index = tmp_path / "i.sqlite"
    (folder / "empty.txt").touch()
    first = ask_add([folder], index)
    assert (first.num_read, first.num_unchanged, first.num_passages) == (3, 0, 2)
    second = ask_add([folder], index)
    assert (second.num_read, second.num_unchanged, second.notes) == (0, 3, first.notes)
    (folder / "poem.md").write_text(POEMS[1], encoding="utf-8")
    (folder / "new.txt").write_text(POEMS[2], encoding="utf-8")
    (folder / "tea.txt").unlink()
    third = ask_add([folder], index)
    counts = (third.num_read, third.num_unchanged, third.num_gone, third.num_passages)
    assert counts == (2, 1, 1, 2)
    with Documents(index) as documents:
        assert documents.search("龙井茶") == documents.search("黄河入海") == []
        assert documents.search("举头望明月")
    other = ask_add([folder], index, settings=IndexSettings(max_megabytes=1))
    assert (other.num_read, other.num_unchanged) == (3, 0)


def test_a_file_changed_at_this_moment_is_looked_at_again(folder: Path, tmp_path: Path) -> None:
    index = tmp_path / "i.sqlite"
    ask_add([folder], index)
    assert ask_add([folder], index).num_read == 2


@pytest.mark.usefixtures("settled")
def test_folders_are_kept_apart(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "papers2"
    other.mkdir()
    (other / "a.txt").write_text(POEMS[1], encoding="utf-8")
    index = tmp_path / "i.sqlite"
    ask_add([folder], index)
    assert ask_add([other], index).num_gone == 0
    (folder / "tea.txt").unlink()
    assert ask_add([other / "a.txt"], index).num_passages == 3
    (folder / "poem.md").unlink()
    folder.rmdir()
    gone = ask_add([folder], index)
    assert (gone.num_gone, gone.num_passages) == (2, 1)
    with pytest.raises(DataError, match="papers: no such file or folder"):
        ask_add([folder], index)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
@pytest.mark.usefixtures("settled")
def test_what_lies_in_a_closed_folder_is_not_gone(folder: Path, tmp_path: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub/a.txt").write_text(POEMS[1], encoding="utf-8")
    ask_add([folder], tmp_path / "i")
    (folder / "sub").chmod(0)
    report = ask_add([folder], tmp_path / "i")
    (folder / "sub").chmod(0o755)
    assert (report.num_gone, report.num_passages) == (0, 3)
    assert "Permission denied" in report.notes[0]


MORTAL = """
import os, signal, sys
from hanpaca.inference.retrieval.index import Index
from hanpaca.steps import ask_add as adding
adding._COMMIT_SECONDS = 0.0
count, last = 0, int(sys.argv[1])
def tick():
    global count
    count += 1
    if count == last:
        os.kill(os.getpid(), signal.SIGKILL)
prepare = Index._prepare
def with_ticks(index):
    index.database.set_progress_handler(tick, 50)
    prepare(index)
    index.database.execute("PRAGMA cache_size = 5")  # so that half a transaction is on the disk
Index._prepare = with_ticks
adding.ask_add([sys.argv[2]], sys.argv[3])
print(count)
"""


def added(folder: Path, index: Path, last: int = 0) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", MORTAL, str(last), str(folder), str(index)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(words, capture_output=True, text=True, env=environment, check=False)


def kept(index: Path) -> list[tuple[str, str]]:
    with Index(index) as opened:
        (whole,) = opened.database.execute("PRAGMA integrity_check").fetchone()
        opened.database.execute("INSERT INTO words(words) VALUES('integrity-check')")
        rows = opened.database.execute(
            "SELECT path, text FROM passages JOIN files ON file = files.id ORDER BY path, number"
        ).fetchall()
        assert (whole, opened.num_passages) == ("ok", len(rows))
        asked = "SELECT count(*) FROM words WHERE words MATCH '龙井'"
        assert opened.database.execute(asked).fetchone() == (len(rows),)
    return rows


@pytest.mark.slow
def test_killed_at_any_point_the_index_is_whole_and_the_rest_follows(tmp_path: Path) -> None:
    """Killed inside SQLite, at points all over the work, the first and the second time."""
    folder, index = tmp_path / "papers", tmp_path / "i.sqlite"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}.txt").write_text(f"{TEA * 30}\n\n" * number + TEA, encoding="utf-8")
    num_ticks = int(added(folder, tmp_path / "whole.sqlite").stdout)
    whole = kept(tmp_path / "whole.sqlite")
    assert len(whole) > 50
    for point in range(1, 5):
        assert added(folder, index, num_ticks * point // 5).returncode == -signal.SIGKILL
        if index.is_file():
            assert set(kept(index)) <= set(whole)
        if point % 2:
            added(folder, index, num_ticks // 9)
            assert set(kept(index)) <= set(whole)
        assert added(folder, index).returncode == 0
        assert kept(index) == whole
        index.unlink()


def test_an_answer_comes_from_the_passages_and_names_them(
    folder: Path, tmp_path: Path, scripted: Path
) -> None:
    asked: list[str] = []
    loading = Loading(context_tokens=2048, threads=1)
    with Documents(tmp_path / "i", model=scripted, loading=loading) as documents:
        documents.add(folder)
        chat = documents._loaded()
        ask = chat.session.ask_model

        def overheard(messages: Messages, sampling: Sampling, room: int) -> Pieces:
            asked.append(messages[0]["content"])
            return ask(messages, sampling, room)

        chat.session.ask_model = overheard
        answer = documents.ask("龙井茶产于哪里？")
        assert answer.text == ANSWER
        (source,) = answer.sources
        assert (source.number, source.unit, source.place, source.text) == (1, "line", 1, TEA)
        assert source.path == str(folder / "tea.txt")
        assert str(source) == f"[1] {folder}/tea.txt, line 1"
        assert asked == [CHINESE.answer.format(sources=f"[1] {TEA}", question="龙井茶产于哪里？")]
        refused = documents.ask("股票为什么下跌？")
        assert (refused.text, refused.sources, len(asked)) == (CHINESE.nothing, [], 1)


def test_nothing_found_asks_no_model(folder: Path, tmp_path: Path) -> None:
    with Documents(tmp_path / "i", model=tmp_path / "no model at all") as documents:
        documents.add(folder)
        assert (
            "".join(documents.stream("What is LoRA?"))
            == "Nothing in the documents is like this question."
        )
        with pytest.raises(ArtifactError, match="no such file"):
            documents.ask("龙井茶")
        with pytest.raises(RecipeError, match="the question is empty"):
            documents.search(" ")
    (tmp_path / "empty").touch()
    with pytest.raises(ArtifactError, match="no index of documents"):
        Documents(tmp_path / "empty").search("龙井茶")
    with pytest.raises(RecipeError, match="no model to answer with: give model="):
        Documents(tmp_path / "i").ask("龙井茶")


def test_passages_that_the_context_cannot_hold_are_left_out_and_named(
    tmp_path: Path, scripted: Path, pico_base: Path
) -> None:
    told: list[Progress] = []
    rows = "".join(f'{{"text": "{TEA * 8}{n}"}}\n' for n in range(4))
    (tmp_path / "a.jsonl").write_text(rows, encoding="utf-8")
    loading = Loading(context_tokens=1024, threads=1)
    with Documents(tmp_path / "i", model=scripted, loading=loading, tell=told.append) as documents:
        documents.add(tmp_path / "a.jsonl")
        assert documents.ask("龙井茶").text == ANSWER
        notes = [one.note for one in told if "left out" in one.note]
        assert notes[0] == "passage 4 is left out: the context of 1,024 tokens is full"
    # A model that was made for no more cuts as if no more had been asked for.
    made_for = scripted_model(pico_base, tmp_path / "less", last=END, context_tokens=1024)
    more, again = Loading(context_tokens=8192, threads=1), list[Progress]()
    with Documents(tmp_path / "i", model=made_for, loading=more, tell=again.append) as documents:
        assert documents.ask("龙井茶").text == ANSWER
    assert [one.note for one in again if "left out" in one.note] == notes
    small = Loading(context_tokens=64, threads=1)
    with (
        Documents(tmp_path / "i", model=scripted, loading=small) as documents,
        pytest.raises(PromptTooLong, match="too many for a context of"),
    ):
        documents.ask("龙井茶")


def test_settings_say_what_they_mean() -> None:
    from hanpaca import AskSettings

    kinds: list[type[RecipeSection]] = [AskSettings, IndexSettings]
    assert all(field.description for kind in kinds for field in kind.model_fields.values())
