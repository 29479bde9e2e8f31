from pathlib import Path

import pytest

from hanpaca.gguf.header import read_header
from hanpaca.gguf.shapes import llama_shapes
from hanpaca.gguf.size import REFERENCE_MODELS, predict_all, predict_bytes
from hanpaca.gguf.types import FILE_TYPES
from hanpaca.model.checkpoint import read_headers
from hanpaca.pipeline.formats import folder_to_gguf, read_config


def test_shapes_are_those_of_a_model_on_disk(pico_base: Path, pico_untied: Path) -> None:
    for folder in (pico_base, pico_untied):
        found = {name: info.shape for name, info in read_headers(folder).items()}
        assert llama_shapes(read_config(folder)) == found


def test_biases_are_counted() -> None:
    config = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_hidden_layers": 1,
        "vocab_size": 10,
    }
    with_biases = llama_shapes(config | {"attention_bias": True, "mlp_bias": True})
    biases = {name: shape for name, shape in with_biases.items() if name.endswith(".bias")}
    assert len(biases) == 7
    assert biases["model.layers.0.mlp.up_proj.bias"] == (96,)
    with pytest.raises(ValueError, match="do not fit"):
        llama_shapes(config | {"num_key_value_heads": 3})


@pytest.mark.parametrize("file_type", ["f16", "q8_0", "q4_k_m"])
def test_the_prediction_is_what_a_file_holds_after_its_header(
    file_type: str, pico_untied: Path, tmp_path: Path
) -> None:
    config = read_config(pico_untied)
    file = tmp_path / "m.gguf"
    folder_to_gguf(pico_untied, file, file_type=file_type, metadata={})
    first = min(tensor.begin for tensor in read_header(file).tensors.values())
    predicted = predict_bytes(llama_shapes(config), config=config, file_type=file_type)
    assert file.stat().st_size == first + predicted


def test_the_reference_models_have_the_published_sizes() -> None:
    sizes = {
        name: predict_all(llama_shapes(config), config) for name, config in REFERENCE_MODELS.items()
    }
    assert all(set(found) == set(FILE_TYPES) for found in sizes.values())
    # 6,885,486,592 parameters: LLaMA's with 17,953 rows more in two tables.
    assert sizes["Chinese-LLaMA 7B"]["f16"] == pytest.approx(2 * 6_885_486_592, rel=1e-4)
    more = sizes["Chinese-Alpaca 13B"]["f16"] - sizes["Chinese-LLaMA 13B"]["f16"]
    assert more == 2 * 2 * 5120
