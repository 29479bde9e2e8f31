"""What lies in a file's place, or is no file to be read, is told by what it is."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GemmaConfig, GemmaForCausalLM, LlamaForCausalLM

from hanpaca.checkpoints.model import open_model
from hanpaca.errors import ArtifactError
from hanpaca.merging import MergeOptions, plan_merge
from hanpaca.merging.side import write_hugging_face_side
from hanpaca.model.load import load_model, load_tokenizer
from hanpaca.steps.inspect import inspect

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n"


@pytest.fixture
def model(pico_untied: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pico_untied, tmp_path / "model"))


def as_bin(folder: Path) -> Path:
    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()
    return folder


def configure(folder: Path, **changes: Any) -> None:
    tree = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(tree | changes))


@pytest.mark.parametrize(
    ("content", "told"), [(POINTER, "git lfs pull"), (PAGE, "a web page and not the file")]
)
@pytest.mark.parametrize(
    "name", ["model.safetensors", "pytorch_model.bin", "config.json", "tokenizer.json"]
)
def test_a_pointer_of_git_lfs_and_a_web_page_are_named(
    name: str, content: bytes, told: str, model: Path
) -> None:
    if name == "pytorch_model.bin":
        as_bin(model)
    (model / name).write_bytes(content)
    for ask in (inspect, lambda path: plan_merge(path, [], MergeOptions())):
        with pytest.raises(ArtifactError, match=told) as error:
            ask(model)
        assert name in str(error.value)


@pytest.mark.parametrize(("content", "told"), [(POINTER, "git lfs pull"), (PAGE, "a web page")])
def test_so_are_they_in_the_place_of_a_gguf_file(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(ArtifactError, match=told):
        open_model(tmp_path / "m.gguf")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float8_e4m3fn])
def test_quantized_weights_without_a_word_in_the_configuration_are_named(
    dtype: torch.dtype, model: Path
) -> None:
    weights = load_file(model / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    weights[name] = torch.zeros(4096, 1, dtype=torch.uint8).view(dtype)
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(ArtifactError, match=r"quantized weights.*the model it was quantized from"):
        open_model(model)


def hole(file: Path) -> None:
    """100 GB that take no room."""
    file.unlink(missing_ok=True)
    with file.open("wb") as stream:
        stream.truncate(100_000_000_000)


def pipe(file: Path) -> None:
    """To open it for reading waits for ever."""
    file.unlink(missing_ok=True)
    os.mkfifo(file)


@pytest.mark.parametrize("make", [hole, pipe])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_what_would_never_end_is_refused_by_whoever_reads_it(
    name: str, make: Callable[[Path], None], model: Path, tmp_path: Path
) -> None:
    make(model / name)
    asked: list[Callable[[], object]] = []
    if name == "config.json":
        asked = [lambda: open_model(model), lambda: load_model(model)]
    else:
        asked = [lambda: load_tokenizer(model), lambda: merged_side(model, tmp_path / "out")]
    for ask in asked:
        with pytest.raises(ArtifactError, match=name):
            ask()


def merged_side(model: Path, output: Path) -> None:
    plan = plan_merge(model, [], MergeOptions())
    output.mkdir()
    write_hugging_face_side(output, base=plan.base, config=plan.config, tokenizer=plan.tokenizer)


@pytest.mark.parametrize("name", ["llana", "", 7])
def test_a_model_that_looks_like_llama_must_be_whole_whatever_it_is_called(
    name: object, model: Path
) -> None:
    configure(model, model_type=name)
    assert open_model(model).tensors
    weights = load_file(model / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(ArtifactError, match=r"layers\.1\.mlp\.up_proj\.weight is missing"):
        open_model(model)


def test_another_architecture_with_these_names_is_opened(tmp_path: Path) -> None:
    """Gemma's weights have Llama's names; its configuration leaves out that the head is tied."""
    config = GemmaConfig(
        vocab_size=60,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=16,
    )
    GemmaForCausalLM(config).save_pretrained(tmp_path)
    tree = json.loads((tmp_path / "config.json").read_text())
    tree.pop("tie_word_embeddings", None)
    (tmp_path / "config.json").write_text(json.dumps(tree))
    assert open_model(tmp_path).tied


def test_a_base_of_bin_files_is_loaded(model: Path, pico_untied: Path) -> None:
    ids = torch.tensor([[1, 5, 9, 12]])
    wanted = LlamaForCausalLM.from_pretrained(pico_untied, dtype=torch.float32)(ids).logits
    found = load_model(as_bin(model), dtype=torch.float32)(ids).logits
    assert torch.equal(wanted, found)
