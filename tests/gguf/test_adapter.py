"""GGUF adapters: llama.cpp's own bytes, and its own text beside the base."""

import hashlib
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from hanpaca.checkpoints.gguf_model import open_gguf
from hanpaca.errors import ArtifactError
from hanpaca.steps.write_gguf import model_to_gguf
from hanpaca.steps.write_gguf_adapter import write_gguf_adapter
from hanpaca.tokenizer.conversion.gguf_side import gguf_vocabulary

ATTENTION = "base_model.model.model.layers.{}.self_attn.{}.lora_{}.weight"
SIZES = {"q_proj": (32, 32), "k_proj": (16, 32), "v_proj": (16, 32), "o_proj": (32, 32)}


def write_lora(folder: Path, *, scale: float = 1.0, more: Any = None, **config: Any) -> Path:
    """LoRA of all attention matrices, of numbers that are exact in half precision."""
    folder.mkdir(exist_ok=True)
    state = {}
    for layer in range(2):
        for number, (name, (rows, columns)) in enumerate(SIZES.items()):
            a = (np.arange(4 * columns) * (7 + number + layer) % 61 - 30).reshape(4, columns)
            b = (np.arange(rows * 4) * (11 + number) % 53 - 26).reshape(rows, 4)
            state[ATTENTION.format(layer, name, "A")] = (a / 64).astype("f4")
            state[ATTENTION.format(layer, name, "B")] = (b * scale / 64).astype("f4")
    save_file(state | (more or {}), folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "target_modules": list(SIZES)}
    (folder / "adapter_config.json").write_text(json.dumps(settings | config))
    return folder


def tensors(file: Path) -> dict[str, gguf.ReaderTensor]:
    return {one.name: one for one in gguf.GGUFReader(file).tensors}


@pytest.mark.parametrize(
    ("dtype", "sha256"),
    [
        ("f16", "b3ec6efec899ce834ee80c8f3e1a5dbb9ad9c4131c5dcb99ee029476a34631f9"),
        ("f32", "70ac3359108f904ff48a8470669f4a6bbc18edb7f60f5a0b4dc25233b170a214"),
    ],
)
def test_tensors_are_those_of_llama_cpps_own_script(
    dtype: Any, sha256: str, pico_base: Path, tmp_path: Path
) -> None:
    """Golden: llama.cpp's convert_lora_to_gguf.py (llama-cpp-python 0.3.36), the same folders."""
    write_gguf_adapter(write_lora(tmp_path / "a"), pico_base, tmp_path / "a.gguf", dtype=dtype)
    lines = sorted(
        f"{name} {one.tensor_type.name} {hashlib.sha256(one.data.tobytes()).hexdigest()}\n"
        for name, one in tensors(tmp_path / "a.gguf").items()
    )
    assert len(lines) == 16
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == sha256
    fields = gguf.GGUFReader(tmp_path / "a.gguf").fields
    assert fields["adapter.type"].contents() == "lora"
    assert fields["adapter.lora.alpha"].contents() == 6


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"use_rslora": True},
        {"alpha_pattern": {"k_proj": 20}},
        {"alpha_pattern": {"k_proj": 0}},
        {"lora_alpha": 0, "alpha_pattern": {"k_proj": 20}},
        {"use_rslora": True, "alpha_pattern": {"layers.1.self_attn.v_proj": 1}},
    ],
)
def test_every_scaling_is_carried(config: dict[str, Any], pico_base: Path, tmp_path: Path) -> None:
    adapter = write_lora(tmp_path / "a", **config)
    write_gguf_adapter(adapter, pico_base, tmp_path / "a.gguf", dtype="f32")
    model_to_gguf(pico_base, {"f32": tmp_path / "base.gguf"}, metadata={})
    merged = {"f32": tmp_path / "merged.gguf"}
    model_to_gguf(pico_base, merged, adapters=[adapter], metadata={})
    found = tensors(tmp_path / "a.gguf")
    fields = gguf.GGUFReader(tmp_path / "a.gguf").fields
    alpha = fields["adapter.lora.alpha"].contents()
    base, folded = (tensors(tmp_path / f"{name}.gguf") for name in ("base", "merged"))
    for name in (f"blk.{n}.attn_{x}.weight" for n in (0, 1) for x in ("q", "k", "v", "output")):
        a, b = found[f"{name}.lora_a"].data, found[f"{name}.lora_b"].data
        update = b @ a * (alpha / len(a))
        np.testing.assert_allclose(
            base[name].data + update, folded[name].data, rtol=8e-3, atol=1e-3
        )


@pytest.mark.parametrize(
    ("more", "config", "told"),
    [
        ({"base_model.model.lm_head.weight": (400, 32)}, {}, "brings the whole of lm_head"),
        (
            {"base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta": (2, 32)},
            {"trainable_token_indices": [7, 8]},
            "has new rows for model.embed_tokens",
        ),
        (
            {
                "base_model.model.model.embed_tokens.lora_embedding_A": (4, 400),
                "base_model.model.model.embed_tokens.lora_embedding_B": (32, 4),
            },
            {"target_modules": None},
            "updates model.embed_tokens",
        ),
    ],
)
def test_what_gguf_cannot_carry_is_refused_by_name(
    more: dict[str, tuple[int, int]],
    config: dict[str, Any],
    told: str,
    pico_untied: Path,
    tmp_path: Path,
) -> None:
    rows = json.loads((pico_untied / "config.json").read_text())["vocab_size"]
    shapes = {name: tuple(rows if n == 400 else n for n in shape) for name, shape in more.items()}
    extra = {name: np.ones(shape, "f4") for name, shape in shapes.items()}
    adapter = write_lora(tmp_path / "a", more=extra, **config)
    with pytest.raises(ArtifactError, match=rf"{told}.*fold it into its base"):
        write_gguf_adapter(adapter, pico_untied, tmp_path / "a.gguf", dtype="f16")
    assert not list(tmp_path.glob("*.gguf"))


def test_dora_is_refused_by_name(pico_base: Path, tmp_path: Path) -> None:
    folder = write_lora(tmp_path / "a", use_dora=True)
    state = load_file(folder / "adapter_model.safetensors")
    for name in [name for name in state if "lora_B" in name]:
        key = name.replace("lora_B.weight", "lora_magnitude_vector")
        state[key] = np.ones(len(state[name]), "f4")
    save_file(state, folder / "adapter_model.safetensors")
    with pytest.raises(ArtifactError, match=r"scales the rows of .*k_proj.*\(DoRA\)"):
        write_gguf_adapter(folder, pico_base, tmp_path / "a.gguf", dtype="f16")


def test_a_factor_too_large_for_half_precision_is_named(pico_base: Path, tmp_path: Path) -> None:
    adapter = write_lora(tmp_path / "a", scale=1e6)
    with pytest.raises(ArtifactError, match="too large for f16: choose f32"):
        write_gguf_adapter(adapter, pico_base, tmp_path / "a.gguf", dtype="f16")


def write_text(model: Path, adapter: Path | None) -> str:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.verbosity = str(model), 128, -1
    params.n_parallel, params.warmup = 1, False
    if adapter:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
    request = {"prompt": "The quick brown", "max_tokens": 20, "temperature": 0, "ignore_eos": True}
    answer = xllamacpp.Server(params).handle_completions(request | {"cache_prompt": False})
    return str(answer["choices"][0]["text"])


def test_llama_cpp_writes_the_same_beside_the_base_as_folded_in(
    pico_base: Path, tmp_path: Path
) -> None:
    adapter = write_lora(tmp_path / "a", use_rslora=True, alpha_pattern={"v_proj": 9})
    write_gguf_adapter(adapter, pico_base, tmp_path / "a.gguf", dtype="f32")
    base, merged = tmp_path / "base.gguf", tmp_path / "merged.gguf"
    model_to_gguf(pico_base, {"f32": base}, metadata={})
    model_to_gguf(pico_base, {"f32": merged}, adapters=[adapter], metadata={})
    assert gguf_vocabulary(open_gguf(merged)) == gguf_vocabulary(open_gguf(base))
    beside = write_text(base, tmp_path / "a.gguf")
    assert beside == write_text(merged, None)
    assert beside != write_text(base, None)


def test_a_scaling_of_zero_changes_nothing_in_llama_cpp(pico_base: Path, tmp_path: Path) -> None:
    """llama.cpp takes an alpha of 0 in the file for a scaling of 1."""
    adapter = write_lora(tmp_path / "a", lora_alpha=0)
    write_gguf_adapter(adapter, pico_base, tmp_path / "a.gguf", dtype="f32")
    base = tmp_path / "base.gguf"
    model_to_gguf(pico_base, {"f32": base}, metadata={})
    assert write_text(base, tmp_path / "a.gguf") == write_text(base, None)
