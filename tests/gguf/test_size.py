from pathlib import Path

import pytest

from hanpaca.checkpoints.gguf import read_header
from hanpaca.checkpoints.model import read_tensors
from hanpaca.checkpoints.shapes import llama_shapes
from hanpaca.gguf.size import (
    FIRST_BLOCKS,
    REFERENCE_MODELS,
    predict_all,
    predict_bytes,
    predict_first_bytes,
)
from hanpaca.gguf.types import FILE_TYPES
from hanpaca.steps.write_gguf import folder_to_gguf, read_config


def test_shapes_are_those_of_a_model_on_disk(pico_base: Path, pico_untied: Path) -> None:
    for folder in (pico_base, pico_untied):
        found = {name: info.shape for name, info in read_tensors(folder).items()}
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


PUBLISHED = {
    "Chinese-Alpaca 7B": (13.77, 4.31, 5.17, 4.74, 5.17, 7.75),
    "Chinese-Alpaca 13B": (26.4, 8.25, 9.9, 9.08, 9.9, 14.85),
}
"""GB of F16, Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0 in the project's table of May 2023 (Alpaca-Plus)."""
K_QUANTS = {
    "Chinese-Alpaca 7B": {"q3_k_m": 3.37, "q4_k_s": 3.93, "q5_k_s": 4.76, "q6_k": 5.65},
    "Chinese-Alpaca 13B": {"q3_k_m": 6.43, "q4_k_s": 7.49, "q5_k_s": 9.11, "q6_k": 10.83},
}
"""The same of June 2023."""


def test_the_published_table_is_what_files_of_its_time_had() -> None:
    for name, published in PUBLISHED.items():
        shapes = llama_shapes(REFERENCE_MODELS[name])
        found = [predict_first_bytes(shapes, file_type=kind) / 1e9 for kind in FIRST_BLOCKS]
        # The header and its vocabulary of 49,954 pieces are about a megabyte more.
        assert found == pytest.approx(published, abs=0.0065)


def test_k_quants_of_today_are_within_a_hundredth_of_those_published() -> None:
    for name, published in K_QUANTS.items():
        found = predict_all(llama_shapes(REFERENCE_MODELS[name]), REFERENCE_MODELS[name])
        for kind, size in published.items():
            assert found[kind] / 1e9 == pytest.approx(size, rel=0.01), kind
