"""Models and adapters that users met: the right result, or one line that says what to do.

Each is made here, small; the oracles are peft and transformers.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaForCausalLM

from tests.support.in_process import Said, say

Run = Callable[..., Said]
UP = "model.layers.1.mlp.up_proj.weight"
HEAD, EMBED = "lm_head.weight", "model.embed_tokens.weight"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda *arguments: say(capsys, *arguments)


@pytest.fixture
def base(pico_untied: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pico_untied, tmp_path / "base"))


@pytest.fixture
def tied(pico_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pico_base, tmp_path / "tied"))


def trained(base: Path, folder: Path, **settings: Any) -> Path:
    """An adapter with random factors, saved by peft."""
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    wanted = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], **settings}
    adapted = get_peft_model(model, LoraConfig(**wanted))
    torch.manual_seed(1)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.05)
    adapted.save_pretrained(str(folder))
    return folder


def configure(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def rewrite(folder: Path, changes: dict[str, Tensor | None]) -> None:
    """Other weights; None takes one out."""
    file = folder / "model.safetensors"
    kept = {name: one for name, one in {**load_file(file), **changes}.items() if one is not None}
    save_file(kept, file, {"format": "pt"})


def logits(model: Any) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model(torch.tensor([[1, 5, 9, 12, 300]])).logits
    return found


def by_peft(base: Path, adapter: Path) -> Tensor:
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    return logits(PeftModel.from_pretrained(model, str(adapter)))


def by_transformers(folder: Path) -> Tensor:
    return logits(LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32))


def merge(run: Run, base: Path, output: Path, *adapters: Path) -> Said:
    chosen = [part for adapter in adapters for part in ("--adapter", adapter)]
    return run("merge", "--base", base, *chosen, "--dtype", "f32", "-o", output)


def to_gguf(run: Run, model: Path, output: Path) -> Said:
    return run("gguf", model, "-o", output, "--types", "f16")


def check_merged(run: Run, base: Path, adapter: Path, output: Path) -> Said:
    said = merge(run, base, output, adapter)
    assert said.status == 0, said.error
    assert torch.allclose(by_transformers(output), by_peft(base, adapter), atol=1e-5)
    return said


def check_refused(said: Said, *told: str) -> None:
    assert said.status in (2, 3, 4, 5), said
    assert said.last_line.startswith("hanpaca: ")
    for words in told:
        assert words in said.last_line


def test_an_alpha_of_zero_for_one_matrix(run: Run, base: Path, tmp_path: Path) -> None:
    adapter = trained(base, tmp_path / "a", alpha_pattern={"v_proj": 0})
    check_merged(run, base, adapter, tmp_path / "out")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_fan_in_fan_out_of_a_linear_layer(run: Run, base: Path, tmp_path: Path) -> None:
    adapter = trained(base, tmp_path / "a")
    configure(adapter / "adapter_config.json", fan_in_fan_out=True)
    said = check_merged(run, base, adapter, tmp_path / "out")
    assert "fan_in_fan_out" in said.error + said.out


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True},
        {"trainable_token_indices": {"lm_head": [3, 7]}},
    ],
)
def test_adapters_of_a_tied_model_that_touch_its_head(
    settings: dict[str, Any], run: Run, tied: Path, tmp_path: Path
) -> None:
    adapter = trained(tied, tmp_path / "a", **settings)
    check_merged(run, tied, adapter, tmp_path / "out")


def test_whole_tensors_beside_the_factors(run: Run, base: Path, tmp_path: Path) -> None:
    """LongLoRA's `trainable_params.bin`, which peft itself does not read."""
    adapter, norm = trained(base, tmp_path / "a"), torch.randn(32)
    name = "base_model.model.model.norm.weight"
    torch.save({name: norm}, adapter / "trainable_params.bin")
    said = merge(run, base, tmp_path / "out", adapter)
    assert said.status == 0
    assert "trainable_params.bin" in said.error + said.out
    assert torch.equal(load_file(tmp_path / "out/model.safetensors")["model.norm.weight"], norm)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lora_alpha": int("1" + "0" * 400)}, "401 digits"),
        ({"alpha_pattern": {"(.|.)*" * 6 + "[A-Z]": 1}}, "takes too long to match"),
        ({"trainable_token_indices": [1, 10**18]}, "adapter"),
    ],
)
def test_configurations_of_adapters_that_would_never_end(
    changes: dict[str, Any], told: str, run: Run, base: Path, tmp_path: Path
) -> None:
    adapter = trained(base, tmp_path / "a")
    configure(adapter / "adapter_config.json", **changes)
    if "trainable_token_indices" in changes:
        file = adapter / "adapter_model.safetensors"
        rows = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"
        save_file({**load_file(file), rows: torch.zeros(2, 32)}, file, {"format": "pt"})
    check_refused(merge(run, base, tmp_path / "out", adapter), told)
    assert not (tmp_path / "out").exists()


def test_a_pattern_that_peft_never_ends_to_match(run: Run, base: Path, tmp_path: Path) -> None:
    adapter = trained(base, tmp_path / "a")
    wanted = by_peft(base, adapter)
    pattern = "((a|[a-z_.0-9])+)+!"  # of no matrix
    configure(adapter / "adapter_config.json", alpha_pattern={pattern: 1})
    assert merge(run, base, tmp_path / "out", adapter).status == 0
    assert torch.allclose(by_transformers(tmp_path / "out"), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({HEAD: None}, "lm_head.weight is missing, though tie_word_embeddings is not true"),
        ({UP: None}, f"the weight {UP} is missing"),
        ({"model.layers.0.input_layernorm.weight": None}, "input_layernorm.weight is missing"),
        ({"model.norm.weight": torch.ones(31)}, "model.norm.weight is [31], but [32]"),
    ],
)
def test_a_base_that_is_not_whole(
    changes: dict[str, Tensor | None], told: str, run: Run, base: Path, tmp_path: Path
) -> None:
    rewrite(base, changes)
    check_refused(merge(run, base, tmp_path / "out"), told)
    check_refused(to_gguf(run, base, tmp_path / "g"), told)
    assert "warning" in run("inspect", base).out
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob("g/*"))


def test_a_head_of_its_own_though_the_configuration_says_tied(
    run: Run, tied: Path, tmp_path: Path
) -> None:
    rewrite(tied, {HEAD: torch.randn_like(load_file(tied / "model.safetensors")[EMBED])})
    said = merge(run, tied, tmp_path / "out")
    assert said.status == 0
    assert "tie_word_embeddings true" in said.error + said.out
    assert torch.equal(by_transformers(tmp_path / "out"), by_transformers(tied))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 10**12},
        {"hidden_size": 10**30},
        {"vocab_size": 10**15},
        {"max_position_embeddings": 10**40},
        {"head_dim": 10**18},
    ],
)
def test_numbers_beyond_all_bounds(
    changes: dict[str, Any], run: Run, base: Path, tmp_path: Path
) -> None:
    configure(base / "config.json", **changes)
    check_refused(to_gguf(run, base, tmp_path / "g"), next(iter(changes)))
    assert not list(tmp_path.glob("g/*"))


def test_brackets_without_end(run: Run, base: Path, tmp_path: Path) -> None:
    (base / "tokenizer.json").write_text("[" * 100_000)
    check_refused(to_gguf(run, base, tmp_path / "g"), "tokenizer.json: damaged JSON")
    check_refused(merge(run, base, tmp_path / "out"), "tokenizer.json: damaged JSON")


def test_a_base_of_four_bits(run: Run, base: Path, tmp_path: Path) -> None:
    """Of a QLoRA training: the adapter's own base is a folder of bitsandbytes."""
    adapter = trained(base, tmp_path / "a")
    rewrite(base, {UP: torch.zeros(1024, 1, dtype=torch.uint8)})
    check_refused(merge(run, base, tmp_path / "out", adapter), "U8", "it was quantized from")
    quantized = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    configure(base / "config.json", quantization_config=quantized)
    check_refused(merge(run, base, tmp_path / "out", adapter), "bitsandbytes")


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module."])
def test_names_with_a_wrapper_before_them(
    prefix: str, run: Run, base: Path, tmp_path: Path
) -> None:
    adapter = trained(base, tmp_path / "a")
    wanted = by_peft(base, adapter)
    file = adapter / "adapter_model.safetensors"
    save_file({prefix + name: one for name, one in load_file(file).items()}, file)
    assert merge(run, base, tmp_path / "out", adapter).status == 0
    assert torch.allclose(by_transformers(tmp_path / "out"), wanted, atol=1e-5)


@pytest.mark.slow
def test_a_base_of_bin_files_is_merged_written_grown_and_measured(
    run: Run, base: Path, tmp_path: Path
) -> None:
    wanted, weights = by_transformers(base), base / "model.safetensors"
    torch.save(load_file(weights), base / "pytorch_model.bin")
    weights.unlink()
    text = tmp_path / "text.txt"
    text.write_text("白日依山尽，黄河入海流。欲穷千里目，更上一层楼。\n" * 30, encoding="utf-8")
    extended = tmp_path / "extended"
    asked: dict[str, tuple[object, ...]] = {
        "merge": ("merge", "--base", base, "--dtype", "f32", "-o", tmp_path / "out"),
        "gguf": ("gguf", base, "-o", tmp_path / "g", "--types", "f16"),
        "extend": (
            *("tokenizer", "extend", "--base", base, "--text", text),
            *("--num-pieces", 4, "-o", extended),
        ),
        "grow": (
            *("grow", "--base", base, "--extended", extended, "--text", text),
            *("-o", tmp_path / "grown"),
        ),
        "eval": ("eval", base, "--text", text),
    }
    for verb, arguments in asked.items():
        said = run(*arguments)
        assert said.status == 0, (verb, said.error)
    assert torch.equal(by_transformers(tmp_path / "out"), wanted)
    # A head of more rows is multiplied in other blocks, so the last bit may differ.
    grown = by_transformers(tmp_path / "grown")[..., :394]
    torch.testing.assert_close(grown, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git lfs pull"),
        (b"<!doctype html><html><body>403</body></html>", "a web page"),
    ],
)
def test_what_a_download_left_in_place_of_the_weights(
    content: bytes, told: str, run: Run, base: Path, tmp_path: Path
) -> None:
    (base / "model.safetensors").write_bytes(content)
    for said in (
        merge(run, base, tmp_path / "out"),
        run("inspect", base),
        to_gguf(run, base, tmp_path / "g"),
    ):
        check_refused(said, "model.safetensors", told)
