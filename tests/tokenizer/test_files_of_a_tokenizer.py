"""Whatever is made of a folder keeps all that belongs to its tokenizer."""

import json
import shutil
from pathlib import Path

import pytest

from hanpaca.merging import MergeOptions, merge_adapters
from hanpaca.merging.extract import extract_adapter
from hanpaca.tokenizer.extension.extend import extend_tokenizer, write_extension
from hanpaca.tokenizer.folder import copy_tokenizer, remove_tokenizer, tokenizer_files
from tests.support.texts import CHINESE

EXTRAS = {
    "added_tokens.json": "{}",
    "special_tokens_map.json": "{}",
    "chat_template.jinja": "D",
    "chat_template.json": '{"chat_template": "P"}',
    "additional_chat_templates/tool_use.jinja": "T",
    "additional_chat_templates/rag.jinja": "R",
}


@pytest.fixture
def base(pico_base: Path, tmp_path: Path) -> Path:
    """A model whose tokenizer has everything beside it."""
    folder = tmp_path / "base"
    shutil.copytree(pico_base, folder)
    (folder / "additional_chat_templates").mkdir()
    for name, text in EXTRAS.items():
        (folder / name).write_text(text)
    return folder


def kept(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in EXTRAS if (folder / name).exists()}


def test_an_extended_tokenizer_keeps_them(base: Path, tmp_path: Path) -> None:
    extension = extend_tokenizer(base, CHINESE.splitlines(), num_pieces=4, scripts=("Han",))
    write_extension(extension, base, tmp_path / "extended")
    assert kept(tmp_path / "extended") == EXTRAS


def test_a_merged_model_keeps_them(base: Path, tmp_path: Path) -> None:
    merge_adapters(base, [], tmp_path / "merged", options=MergeOptions())
    assert kept(tmp_path / "merged") == EXTRAS


def test_an_extracted_adapter_brings_them_and_a_merge_takes_them_all(
    base: Path, pico_base: Path, pico_untied: Path, tmp_path: Path
) -> None:
    tuned = tmp_path / "tuned"
    shutil.copytree(pico_untied, tuned)
    copy_tokenizer(base, tuned)
    other = tmp_path / "other"
    shutil.copytree(pico_untied, other)
    change_weights(other)
    extract_adapter(other, tuned, tmp_path / "adapter", rank=4)
    assert kept(tmp_path / "adapter") == EXTRAS
    (other / "additional_chat_templates").mkdir()
    (other / "additional_chat_templates" / "old.jinja").write_text("O")
    merge_adapters(other, [tmp_path / "adapter"], tmp_path / "merged")
    assert kept(tmp_path / "merged") == EXTRAS
    assert not (tmp_path / "merged" / "additional_chat_templates" / "old.jinja").exists()


def change_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    weights[name] = weights[name] + 0.25
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_copy_is_whole_and_can_be_taken_away(base: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    copy_tokenizer(base, target)
    assert tokenizer_files(target) == tokenizer_files(base)
    assert json.loads((target / "tokenizer.json").read_text())
    remove_tokenizer(target)
    assert tokenizer_files(target) == []
