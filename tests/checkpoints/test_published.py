import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from typer.testing import CliRunner

from hanpaca.checkpoints import published
from hanpaca.checkpoints import released as catalogue
from hanpaca.cli import app
from hanpaca.errors import ArtifactError, ResourceError

ALPACA = "chinese-alpaca-7b"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two releases whose files are a few bytes."""
    real = catalogue.releases()
    fake = {
        name: replace(
            real[name],
            adapter_sha256=sha256(name.encode()),
            tokenizer_sha256=sha256(b"tokenizer of " + name[:13].encode()),
            merged_pth=(sha256(b"merged " + name.encode()),),
        )
        for name in (ALPACA, "chinese-llama-7b")
    }
    monkeypatch.setattr(published, "releases", lambda: fake)
    monkeypatch.setattr(catalogue, "releases", lambda: fake)


def write(folder: Path, **files: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name.replace("__", ".")).write_bytes(data)
    return folder


def whole(folder: Path, name: str = ALPACA) -> Path:
    tokenizer = b"tokenizer of " + name[:13].encode()
    return write(folder, adapter_model__bin=name.encode(), tokenizer__model=tokenizer)


@pytest.mark.usefixtures("known")
def test_a_whole_download_has_no_fault(tmp_path: Path) -> None:
    checked = published.check_published(whole(tmp_path))
    assert checked[0].found == (f"{ALPACA} adapter_model.bin",)
    assert published.faults_of(checked, None) == []
    assert published.faults_of(checked, catalogue.find_release(ALPACA)) == []


@pytest.mark.usefixtures("known")
def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    write(whole(tmp_path), adapter_model__bin=b"<html>")
    faults = published.faults_of(published.check_published(tmp_path), None)
    assert len(faults) == 1
    assert faults[0].startswith("adapter_model.bin: ")
    assert "download it again" in faults[0]


@pytest.mark.usefixtures("known")
def test_alpacas_adapter_with_llamas_tokenizer_is_a_mix(tmp_path: Path) -> None:
    write(whole(tmp_path), tokenizer__model=b"tokenizer of chinese-llama")
    (fault,) = published.faults_of(published.check_published(tmp_path), None)
    assert "different models" in fault
    assert "tokenizer.model is chinese-llama-7b" in fault


@pytest.mark.usefixtures("known")
def test_a_right_file_of_another_model_is_told(tmp_path: Path) -> None:
    checked = published.check_published(whole(tmp_path, "chinese-llama-7b"))
    faults = published.faults_of(checked, catalogue.find_release(ALPACA))
    assert any("not chinese-alpaca-7b's" in fault for fault in faults)


def test_a_folder_without_such_files_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="none of the files with published hashes"):
        published.check_published(tmp_path)
    with pytest.raises(ArtifactError, match="no such folder"):
        published.check_published(tmp_path / "none")


def test_the_original_tokenizer_is_none_that_was_published(shared_data: Path) -> None:
    """Meta's own tokenizer.model is not in the list; the two extended ones are."""
    (entry,) = published.check_published(shared_data / "tokenizers/llama")
    assert entry.found == ()


def test_tokenizers_rebuilt_by_the_published_recipe_are_recognised(
    shared_data: Path, tmp_path: Path
) -> None:
    """The reference's rule: every Chinese piece that LLaMA lacks, score 0, then `[PAD]`."""
    model_pb2 = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    llama, chinese = model_pb2.ModelProto(), model_pb2.ModelProto()
    llama.ParseFromString((shared_data / "tokenizers/llama/tokenizer.model").read_bytes())
    chinese.ParseFromString((shared_data / "tokenizers/chinese_sp.model").read_bytes())
    have = {piece.piece for piece in llama.pieces}
    new = [piece.piece for piece in chinese.pieces if piece.piece not in have]
    for pieces, owner in (([*new], "chinese-llama-"), (["[PAD]"], "chinese-alpaca-")):
        for piece in pieces:
            llama.pieces.add(piece=piece, score=0.0)
        (tmp_path / "tokenizer.model").write_bytes(llama.SerializeToString())
        (entry,) = published.check_published(tmp_path)
        assert entry.found
        assert all(one.startswith(owner) for one in entry.found)
        assert published.faults_of([entry], None) == []


@pytest.mark.usefixtures("known")
def test_a_download_appears_only_when_every_hash_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def snapshot(hub_id: str, *, local_dir: Path, allow_patterns: list[str]) -> None:
        asked.append(hub_id)
        whole(local_dir)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    release = catalogue.find_release(ALPACA)
    published.download_release(release, tmp_path / "good")
    assert asked == ["hfl/chinese-alpaca-lora-7b"]
    assert (tmp_path / "good" / "adapter_model.bin").is_file()
    with pytest.raises(ArtifactError, match="already exists"):
        published.download_release(release, tmp_path / "good")
    wrong = replace(release, adapter_sha256="0" * 64)
    monkeypatch.setattr(published, "releases", lambda: {ALPACA: wrong})
    with pytest.raises(ArtifactError, match="none that was published"):
        published.download_release(wrong, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_a_failing_hub_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ResourceError, match="no route to host"):
        published.download_release(catalogue.find_release(ALPACA), tmp_path / "out")


def test_the_commands_list_show_and_verify(tmp_path: Path) -> None:
    runner = CliRunner()
    listed = runner.invoke(app, ["models", "--json"])
    assert len(json.loads(listed.stdout)) == 15
    shown = runner.invoke(app, ["models", "chinese-alpaca-plus-7b"]).stdout
    assert "LLaMA-7B + chinese-llama-plus-7b + chinese-alpaca-plus-7b" in shown
    write(tmp_path, tokenizer__model=b"other")
    verified = runner.invoke(app, ["verify-download", str(tmp_path), "--json"])
    assert isinstance(verified.exception, ArtifactError)
    assert json.loads(verified.stdout)["faults"]
