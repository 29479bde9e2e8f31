import hashlib
import os
import shutil
from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor

from hanpaca.errors import ArtifactError, ResourceError
from hanpaca.files import describe_file
from hanpaca.model.load import load_tokenizer
from hanpaca.runs import base as source
from hanpaca.runs.base import resolve_base
from hanpaca.runs.recipe import load_recipe
from hanpaca.settings import Recipe

RECIPE = """
name: test
base: {base}
data: {{text: [text.txt], replay: [], instructions: [chats.jsonl]}}
tokenizer: {{num_pieces: 10}}
pretrain: {{num_tokens: 1000, replay_fraction: 0}}
sft: {{num_tokens: 1000, replay_fraction: 0}}
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/hanpaca"


def recipe_with(folder: Path, base: str, more: str = "") -> Recipe:
    file = folder / "recipe.yaml"
    file.write_text(RECIPE.format(base=base) + more, encoding="utf-8")
    return load_recipe(file)


def make_base(folder: Path) -> Path:
    base = folder / "base"
    base.mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer.json", "README.md"):
        (base / name).write_bytes(name.encode())
    return base


def test_a_folder_is_itself_and_its_files_are_hashed(tmp_path: Path) -> None:
    base = make_base(tmp_path)
    folder, inputs = resolve_base(recipe_with(tmp_path, "base"), lambda text: None)
    assert folder == base
    assert {one.path: one.sha256 for one in inputs} == {
        f"base/{name}": hashlib.sha256(name.encode()).hexdigest()
        for name in ("config.json", "model.safetensors", "tokenizer.json")
    }


def test_an_unchanged_file_is_not_read_again_and_a_changed_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, recipe = make_base(tmp_path), recipe_with(tmp_path, "base")
    read: list[str] = []

    def watched(path: Path, *, name: str) -> object:
        read.append(path.name)
        return describe_file(path, name=name)

    monkeypatch.setattr(source, "describe_file", watched)
    first = resolve_base(recipe, lambda text: None)
    assert len(read) == 3
    assert resolve_base(recipe, lambda text: None) == first
    assert len(read) == 3
    changed = base / "model.safetensors"
    changed.write_bytes(b"other weights data")
    os.utime(changed, ns=(1, 1))
    second = resolve_base(recipe, lambda text: None)
    assert read[3:] == ["model.safetensors"]
    assert second[1] != first[1]


def test_a_damaged_memory_is_made_anew(tmp_path: Path, cache: Path) -> None:
    make_base(tmp_path)
    cache.mkdir(parents=True)
    (cache / "hashes.json").write_text("{broken")
    assert len(resolve_base(recipe_with(tmp_path, "base"), lambda text: None)[1]) == 3


def test_what_is_no_base_is_named(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"weights\.bin: a base is a folder or a \.gguf file"):
        resolve_base(recipe_with(tmp_path, "weights.bin"), lambda text: None)
    with pytest.raises(ArtifactError, match=r"base: .*nowhere/at/all does not exist"):
        resolve_base(recipe_with(tmp_path, "nowhere/at/all"), lambda text: None)


def test_another_gguf_than_the_recipe_means_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"not the one")
    recipe = recipe_with(tmp_path, "model.gguf", f'base_sha256: "{"0" * 64}"\n')
    with pytest.raises(ArtifactError, match="another version, or damaged"):
        resolve_base(recipe, lambda text: None)


def test_a_hub_that_cannot_be_reached_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*arguments: object, **settings: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(ResourceError, match="cannot be downloaded from the hub: no network"):
        resolve_base(recipe_with(tmp_path, "someone/some-model"), lambda text: None)


@pytest.mark.slow
def test_a_base_with_a_tokenizer_model_alone_gets_the_json_beside_links(
    pico_sentencepiece: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    shutil.copyfile(pico_sentencepiece / "tokenizer.model", base / "tokenizer.model")
    (base / "config.json").write_text("{}")
    told: list[str] = []
    recipe = recipe_with(tmp_path, "base")
    folder, inputs = resolve_base(recipe, told.append)
    assert sorted(file.name for file in base.iterdir()) == ["config.json", "tokenizer.model"]
    assert [one.path for one in inputs] == ["base/config.json", "base/tokenizer.model"]
    assert (folder / "config.json").resolve() == base / "config.json"
    text = "白日依山尽 and  then\n"
    ids = SentencePieceProcessor(model_file=str(base / "tokenizer.model")).encode(text)
    assert load_tokenizer(folder).encode(text, add_special_tokens=False) == ids
    assert resolve_base(recipe, told.append)[0] == folder
    assert len(told) == 1
    (base / "config.json").write_text('{"changed": 1}')
    assert resolve_base(recipe, told.append)[0] != folder
