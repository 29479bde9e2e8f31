import json
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from hanpaca.errors import ArtifactError, RecipeError
from hanpaca.inference.session import read_messages
from hanpaca.progress import Progress
from hanpaca.steps.chat import Chat
from hanpaca.steps.web import Half, Loading, Models, Offer, Sampling, Talk, offers
from tests.support.scripted import ANSWER, END, scripted_model


@pytest.fixture(scope="module")
def folder(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`short.gguf`, which answers and ends, and `endless.gguf`, which does not."""
    folder = tmp_path_factory.mktemp("models")
    scripted_model(pico_base, folder / "short", last=END)
    scripted_model(pico_base, folder / "endless", last="\n")
    return folder


@pytest.fixture(scope="module")
def models(folder: Path) -> Iterator[Models]:
    offered = [Offer(name, folder / f"{name}.gguf") for name in ("short", "endless", "third")]
    with Models(offered, loading=Loading(threads=1, context_tokens=1024)) as models:
        yield models


def told(answer: Iterator[Half]) -> list[str]:
    """Who wrote, once for each time in a row."""
    names = [half.name for half in answer]
    return [name for i, name in enumerate(names) if name not in names[i - 1 : i]]


def said(half: Half) -> list[str]:
    return [turn["content"] for turn in half.shown]


LINES = Sampling(max_tokens=30)
ENDLESS = f"{ANSWER}\n" * 3


def test_two_models_answer_the_same_question_one_after_the_other(models: Models) -> None:
    talk = Talk(models, ["short", "endless"])
    talk.set(LINES, "短")
    answer = talk.ask("一")
    assert next(answer) is talk.halves[0]
    assert [said(half) for half in talk.halves] == [["一", ""], ["一", ""]]
    assert told(answer) == ["short", "endless"]
    short, endless = talk.halves
    assert (said(short), said(endless)) == (["一", ANSWER], ["一", ENDLESS])
    assert (short.num_written, endless.num_written) == (3, 12)
    assert short.rate is not None
    assert short.rate > 0
    assert short.session.answer is not None
    assert short.session.answer.stopped
    assert endless.session.answer is not None
    assert not endless.session.answer.stopped


def test_retry_edit_and_undo_change_both_halves(models: Models) -> None:
    talk = Talk(models, ["short", "endless"])
    talk.set(LINES, None)
    with pytest.raises(RecipeError, match="no question to ask again"):
        told(talk.retry())
    for question in ("一", "二", "三"):
        told(talk.ask(question))
    told(talk.retry())
    assert [said(half)[::2] for half in talk.halves] == [["一", "二", "三"]] * 2
    told(talk.edit(2, "两"))
    assert [said(half)[::2] for half in talk.halves] == [["一", "两"]] * 2
    assert talk.undo() == "两"
    assert [said(half) for half in talk.halves] == [["一", ANSWER], ["一", ENDLESS]]
    talk.clear()
    assert [said(half) for half in talk.halves] == [[], []]
    assert talk.undo() is None


def test_an_answer_that_is_stopped_keeps_what_was_said(models: Models) -> None:
    talk = Talk(models, ["endless", "short"])
    talk.set(Sampling(max_tokens=900), None)
    with closing(cast(Any, talk.ask("一"))) as answer:
        for half in answer:
            if half.num_written >= 4:
                break
    endless, short = talk.halves
    assert said(endless)[1].startswith(f"{ANSWER}\n")
    assert len(said(endless)[1]) < 200
    assert said(short) == ["一", ""]  # its turn never came: asked, and nothing said
    told(talk.retry())
    assert said(short) == ["一", ANSWER]
    assert len(said(endless)) == 2


def test_a_question_refused_leaves_its_fault_and_the_other_model_answers(models: Models) -> None:
    with models.at_work("short"):
        pass
    talk = Talk(models, ["third", "short"])
    told(talk.ask("一"))
    broken, short = talk.halves
    assert "third.gguf: no such file" in str(broken.fault)
    assert said(broken) == ["一", ""]
    assert said(short) == ["一", ANSWER]
    talk.pick(["short"])
    assert told(talk.ask("长" * 2000)) == ["short"]
    assert "too many for a context of 1,024" in str(talk.halves[0].fault)
    told(talk.ask("二"))
    assert talk.halves[0].fault is None
    assert said(talk.halves[0]) == ["二", ANSWER]


def test_another_model_goes_on_with_the_conversation(models: Models) -> None:
    talk = Talk(models, ["short"])
    told(talk.ask("一"))
    talk.pick(["short", "endless"])
    assert said(talk.halves[1]) == ["一", ANSWER]
    talk.halves[1].session.messages[1]["content"] = "变"
    assert said(talk.halves[0]) == ["一", ANSWER]
    talk.pick(["endless"])
    talk.set(LINES, None)
    told(talk.ask("二"))
    assert [said(half) for half in talk.halves] == [["一", ANSWER, "二", ENDLESS]]


def test_conversations_share_nothing(models: Models) -> None:
    one, other = (Talk(models, ["endless"]) for _ in range(2))
    one.set(LINES, "短")
    told(one.ask("一"))
    assert said(other.halves[0]) == []
    assert other.halves[0].session.system is None


def test_two_people_who_ask_at_once_are_answered_in_turn(models: Models) -> None:
    talks = [Talk(models, ["short"]) for _ in range(4)]
    threads = [threading.Thread(target=lambda one=one: told(one.ask("一"))) for one in talks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [said(talk.halves[0]) for talk in talks] == [["一", ANSWER]] * 4


def test_the_sampling_of_the_page_acts(models: Models) -> None:
    talk = Talk(models, ["endless"])
    talk.set(Sampling(max_tokens=5), None)
    told(talk.ask("一"))
    assert talk.halves[0].session.answer is not None
    assert talk.halves[0].session.answer.num_tokens == 5
    hot = Sampling(max_tokens=40, temperature=50.0, top_k=0, top_p=1.0, min_p=0.0, seed=1)
    talk.set(hot, None)
    told(talk.ask("一"))
    assert not ENDLESS.startswith(said(talk.halves[0])[-1])


def test_a_conversation_is_saved_and_goes_on(models: Models, folder: Path, tmp_path: Path) -> None:
    talk = Talk(models, ["short", "endless"])
    talk.set(LINES, "短")
    told(talk.ask("一"))
    file = tmp_path / "talk.json"
    file.write_text(talk.saved(), encoding="utf-8")
    turns = read_messages(json.loads(talk.saved()), "saved")
    assert [one["role"] for one in turns] == ["system", "user", "assistant"]
    other = Talk(models, ["short", "endless"])
    assert other.load(file) == "短"
    assert [said(half) for half in other.halves] == [said(half) for half in talk.halves]
    alone = Talk(models, ["short"])
    alone.load(file)
    assert said(alone.halves[0]) == ["一", ANSWER]
    with Chat(folder / "short.gguf", loading=Loading(threads=1)) as chat:
        chat.session.load(file)
        assert chat.session.system == "短"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"messages": []}',
        '{"messages": [{"role": "assistant", "content": "一"}]}',
        '{"messages": [{"role": "user", "content": "一"}, {"role": "assistant", "content": "二"}],'
        ' "beside": 1}',
    ],
)
def test_what_is_no_conversation_leaves_the_present_one(
    text: str, models: Models, tmp_path: Path
) -> None:
    talk = Talk(models, ["short"])
    told(talk.ask("一"))
    file = tmp_path / "talk.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"^talk\.json: "):
        talk.load(file)
    assert said(talk.halves[0]) == ["一", ANSWER]


def test_what_can_be_picked_begins_with_what_was_named(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run" / "70-gguf"
    run.mkdir(parents=True)
    for name in ("m.f16.gguf", "m.q4_k_m.gguf"):
        (run / name).touch()
    adapter = tmp_path / "zh"
    adapter.mkdir()
    given = offers([folder / "short", run.parent], [adapter])
    assert [one.name for one in given] == ["short", "short + zh", "m.q4_k_m", "m.f16"]
    assert given[1] == Offer("short + zh", folder / "short", (adapter,))
    twice = offers([folder / "short.gguf", folder / "short", folder / "short.gguf"])
    assert [one.name for one in twice] == ["short", f"{folder.name}/short"]
    with pytest.raises(ArtifactError, match="none: no such file"):
        offers([tmp_path / "none"])


def in_memory(models: Models) -> list[str]:
    return list(models._loaded)


def test_three_models_at_most_are_in_memory_and_those_for_programs_stay(folder: Path) -> None:
    offered = [Offer(str(number), folder / "short.gguf") for number in range(5)]
    notes: list[Progress] = []
    with Models(offered, loading=Loading(threads=1), tell=notes.append) as models:
        seen = []
        for name in ("0", "1", "2", "0", "3", "0"):
            with models.at_work(name):
                seen.append(in_memory(models))
        assert seen == [
            ["0"],
            ["0", "1"],
            ["0", "1", "2"],
            ["1", "2", "0"],
            ["2", "0", "3"],
            ["2", "3", "0"],
        ]
        assert models.keep("3").startswith("short.gguf: 1 of ")
        models.keep("4")
        for name in "012":
            with models.at_work(name):
                assert in_memory(models) == ["3", "4", name]
        assert list(models.engines) == ["3", "4"]
        folder_of_sockets = models.engines["3"].socket.parent
        assert folder_of_sockets.stat().st_mode & 0o777 == 0o700
        with pytest.raises(RecipeError, match="'9' is not among the models"):
            models.keep("9")
    assert not folder_of_sockets.exists()
