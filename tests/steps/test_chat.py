import json
import os
import shutil
import time
from pathlib import Path

import pytest

import hanpaca.steps.model_file as resolver
from hanpaca.errors import ArtifactError
from hanpaca.inference.sampling import Sampling
from hanpaca.progress import Progress
from hanpaca.steps.chat import Chat, Loading
from hanpaca.steps.model_file import chosen_file, gguf_files, model_file
from hanpaca.steps.write_gguf import folder_to_gguf
from tests.support.scripted import ANSWER, END, scripted_model

ONE = Loading(threads=1, context_tokens=256)


@pytest.fixture(scope="module")
def folder(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripted_model(pico_base, tmp_path_factory.mktemp("m") / "model", last=END).with_suffix(
        ""
    )


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/hanpaca/gguf"


def test_a_question_is_asked_and_the_conversation_goes_on(folder: Path) -> None:
    with Chat(folder.with_suffix(".gguf"), loading=ONE, system="短") as chat:
        answer = chat.ask("一")
        assert (str(answer), answer.num_tokens, answer.stopped) == (ANSWER, 10, True)
        assert list(chat.stream("二")) == list(ANSWER)
        assert chat.retry().text == ANSWER
        assert chat.undo() == "二"
        assert chat.history == [
            {"role": "user", "content": "一"},
            {"role": "assistant", "content": ANSWER},
        ]
        chat.use(folder)
        assert chat.file.name.endswith(".q8_0.gguf")
        with pytest.raises(ArtifactError, match="no such file"):
            chat.use(folder / "none")
        assert chat.ask("三").text == ANSWER


def test_an_answer_cut_off_says_so(folder: Path) -> None:
    with Chat(folder.with_suffix(".gguf"), loading=ONE, sampling=Sampling(max_tokens=4)) as chat:
        answer = chat.ask("一")
        assert (answer.text, answer.num_tokens, answer.stopped) == ("你", 4, False)


def test_a_model_folder_is_written_once_and_anew_when_it_changed(
    folder: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    told: list[Progress] = []
    first = model_file(model, tell=told.append)
    assert first.parent == cache
    assert first.name.startswith("model-")
    assert told[0].note == f"{model}: written once as q8_0 to {first}"
    assert [one.unit for one in told[1:]].count("bytes") == len(told) - 1 > 0
    own = tmp_path / "own.gguf"
    folder_to_gguf(model, own, file_type="q8_0", metadata={"general.name": "model"})
    assert first.read_bytes() == own.read_bytes()
    told.clear()
    monkeypatch.setattr(resolver, "_SETTLED_NS", 0)
    time.sleep(0.02)
    assert (model_file(model, tell=told.append), told) == (first, [])
    # Unchanged files are not even read again.
    monkeypatch.setattr(resolver, "describe_file", None)
    assert model_file(model) == first
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parents[1]))
    assert model_file(model, exact=True).name.endswith(".f16.gguf")
    weights = model / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    stat = weights.stat()
    weights.write_bytes(bytes(data))
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as if nothing had happened
    assert model_file(model) != first


def test_of_several_files_the_one_for_use_is_taken(tmp_path: Path) -> None:
    for name in ("a.f16.gguf", "a.q8_0.gguf", "a.q2_k.gguf"):
        (tmp_path / name).touch()
    assert chosen_file(gguf_files(tmp_path)).name == "a.q8_0.gguf"
    assert model_file(tmp_path).name == "a.q8_0.gguf"


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"none: no such file"):
        model_file(tmp_path / "none")
    with pytest.raises(ArtifactError, match="no GGUF files and no model here"):
        model_file(tmp_path)
    (tmp_path / "adapter_config.json").touch()
    with pytest.raises(ArtifactError, match="an adapter alone: give its base, and it as adapter="):
        model_file(tmp_path)


def test_a_model_without_a_template_is_said(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    config = json.loads((model / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    told: list[str] = []
    with Chat(model, loading=ONE, tell=lambda progress: told.append(progress.note)):
        assert "has no chat template: it is asked in ChatML" in told[-1]
    told.clear()
    with Chat(
        model,
        loading=Loading(threads=1, template="chatml"),
        tell=lambda progress: told.append(progress.note),
    ) as chat:
        assert told == []
        assert chat.ask("一").text == ANSWER
