"""A model that is not whole, or not what its configuration says, is refused by name."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from hanpaca.checkpoints.model import open_model
from hanpaca.checkpoints.shapes import llama_shapes
from hanpaca.errors import ArtifactError
from hanpaca.merging import MergeOptions, merge_adapters
from hanpaca.merging.extract import extract_adapter
from hanpaca.model.load import load_model
from hanpaca.steps.combine import Combination, plan_combination
from hanpaca.steps.write_gguf import model_to_gguf

EMBEDDING, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
UP = "model.layers.1.mlp.up_proj.weight"
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 60,
}


@pytest.fixture
def model(pico_untied: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pico_untied, tmp_path / "model"))


def rewrite(folder: Path, changes: Mapping[str, Tensor | None]) -> None:
    """Other weights; None takes one out."""
    tensors = {**load_file(folder / "model.safetensors"), **changes}
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


def configure(folder: Path, **changes: Any) -> None:
    tree = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(tree | changes))


def refusals(folder: Path, whole: Path, output: Path) -> dict[str, str]:
    """What every command that works on a model says to this one."""
    asked: dict[str, Callable[[], object]] = {
        "merge": lambda: merge_adapters(folder, [], output),
        "combine": lambda: plan_combination(
            Combination([(whole, 0.5), (folder, 0.5)]), MergeOptions()
        ),
        "extract": lambda: extract_adapter(whole, folder, output, rank=2),
        "gguf": lambda: model_to_gguf(folder, {"f16": output / "m.gguf"}, metadata={}),
        "load": lambda: load_model(folder),
    }
    told = {}
    for verb, ask in asked.items():
        with pytest.raises(ArtifactError) as error:
            ask()
        told[verb] = str(error.value)
        assert not output.exists(), verb
        assert "\n" not in told[verb]
    return told


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({NORM: None}, "the weight model.norm.weight is missing"),
        ({UP: None}, f"the weight {UP} is missing"),
        ({HEAD: None}, "lm_head.weight is missing, though tie_word_embeddings is not true"),
        ({NORM: torch.ones(31)}, "the weight model.norm.weight is [31], but [32]"),
        ({UP: torch.ones(63, 32)}, f"the weight {UP} is [63, 32], but [64, 32]"),
        ({NORM: None, "model.norm.weighu": torch.ones(32)}, "model.norm.weight is missing"),
        (
            {"model.layers.2.input_layernorm.weight": torch.ones(32)},
            "model.layers.2.input_layernorm.weight has no place",
        ),
        ({HEAD: torch.ones(400, 32)}, "lm_head.weight is [400, 32], but [394, 32]"),
    ],
)
def test_weights_that_are_not_those_of_the_configuration_are_refused(
    changes: dict[str, Tensor | None], message: str, model: Path, pico_untied: Path, tmp_path: Path
) -> None:
    rewrite(model, changes)
    for verb, told in refusals(model, pico_untied, tmp_path / "out").items():
        assert message in told, verb


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 1},
        {"num_hidden_layers": 3},
        {"num_hidden_layers": 10**12},
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": True},
        {"num_hidden_layers": 2.0},
        {"num_attention_heads": 2, "head_dim": 8},
        {"num_attention_heads": 0},
        {"num_attention_heads": 3},
        {"num_key_value_heads": 3},
        {"head_dim": 0},
        {"head_dim": 10**18},
        {"vocab_size": 390},
        {"vocab_size": 10**15},
        {"vocab_size": None},
        {"hidden_size": -1},
        {"hidden_size": 0},
        {"hidden_size": 64},
        {"hidden_size": 10**30},
        {"hidden_size": "32"},
        {"intermediate_size": 128},
        {"max_position_embeddings": 10**40},
        {"tie_word_embeddings": False, "mlp_bias": True},
    ],
    ids=str,
)
def test_numbers_that_are_not_those_of_the_weights_are_refused(
    changes: dict[str, Any], model: Path, pico_untied: Path, tmp_path: Path
) -> None:
    configure(model, **changes)
    for verb, told in refusals(model, pico_untied, tmp_path / "out").items():
        assert str(model) in told, verb


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SIZES),
        LlamaConfig(**SIZES, tie_word_embeddings=True),
        LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
        LlamaConfig(**SIZES | {"head_dim": 4}),
        LlamaConfig(**SIZES | {"num_key_value_heads": None}),
        MistralConfig(**SIZES),
        MistralConfig(**SIZES | {"head_dim": 4}),
    ],
    ids=lambda config: str(config.to_diff_dict())[:60],
)
def test_the_weights_expected_are_those_transformers_writes(
    config: LlamaConfig | MistralConfig, tmp_path: Path
) -> None:
    if isinstance(config, MistralConfig):
        MistralForCausalLM(config).save_pretrained(tmp_path)
    else:
        LlamaForCausalLM(config).save_pretrained(tmp_path)
    written = {
        name: tuple(one.shape) for name, one in load_file(tmp_path / "model.safetensors").items()
    }
    assert llama_shapes(json.loads((tmp_path / "config.json").read_text())) == written
    assert open_model(tmp_path).tensors.keys() == written.keys()


@pytest.mark.parametrize("own_head", [True, False])
def test_a_tied_model_with_a_head_in_its_files_is_what_transformers_makes_of_it(
    own_head: bool, pico_base: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(pico_base, tmp_path / "tied"))
    embedding = load_file(folder / "model.safetensors")[EMBEDDING]
    head = embedding.clone()
    head[5] += own_head
    rewrite(folder, {HEAD: head})
    theirs = LlamaForCausalLM.from_pretrained(folder)
    assert torch.equal(theirs.lm_head.weight, head)
    found = open_model(folder)
    assert found.tied is not own_head
    assert bool(found.notes) is own_head
    merge_adapters(folder, [], tmp_path / "out")
    merged = load_file(tmp_path / "out/model.safetensors")
    assert torch.equal(merged.get(HEAD, merged[EMBEDDING]), head)
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["tie_word_embeddings"] is not own_head
    files = {"bf16": tmp_path / "m.gguf"}
    model_to_gguf(folder, files, metadata={})
    tensors = open_model(files["bf16"]).tensors
    assert (HEAD in tensors) is own_head
    ours = load_model(folder)
    assert torch.equal(ours.lm_head.weight, head)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("", "_orig_mod.", "torch.compile"),
        ("", "module.", "DataParallel"),
        ("", "language_model.", "images and text"),
        ("model.", "model.model.", "a wrapper"),
        ("model.", "model._orig_mod.", "torch.compile"),
        ("model.", "", "lack 'model.'"),
    ],
)
def test_names_of_a_wrapped_model_say_who_wrapped_it(
    before: str, after: str, message: str, model: Path
) -> None:
    tensors = load_file(model / "model.safetensors")
    renamed = {
        (after + name.removeprefix(before) if name.startswith(before) else name): tensor
        for name, tensor in tensors.items()
    }
    save_file(renamed, model / "model.safetensors")
    with pytest.raises(ArtifactError, match=message):
        open_model(model)


def test_quantized_weights_say_so_before_their_types_are_looked_at(model: Path) -> None:
    configure(model, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    rewrite(model, {UP: torch.zeros(1024, 1, dtype=torch.uint8)})
    with pytest.raises(ArtifactError, match=r"bitsandbytes.*give the model it was quantized from"):
        open_model(model)
