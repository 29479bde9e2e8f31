"""Importance matrices and divergence, on models on disk."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hanpaca.checkpoints.gguf_names import gguf_name
from hanpaca.errors import ArtifactError, DataError
from hanpaca.model.load import load_model, load_tokenizer
from hanpaca.steps.compare_gguf import compare_models
from hanpaca.steps.imatrix import collect_imatrix
from hanpaca.steps.write_gguf import gguf_to_folder, model_to_gguf
from tests.support.models import make_pico_model
from tests.support.texts import ENGLISH


def test_importance_is_the_mean_square_of_what_each_matrix_is_given(pico_untied: Path) -> None:
    found = collect_imatrix(
        pico_untied, [ENGLISH], datasets=["e.txt"], num_tokens=50, block_tokens=16
    )
    model, tokenizer = load_model(pico_untied, dtype=torch.float32), load_tokenizer(pico_untied)
    sums: dict[str, torch.Tensor] = {}
    for name, module in model.model.layers.named_modules():
        if isinstance(module, torch.nn.Linear):
            key = str(gguf_name(f"model.layers.{name}.weight"))

            def add(module: torch.nn.Module, given: tuple[torch.Tensor], key: str = key) -> None:
                sums[key] = sums.get(key, 0) + given[0][0].double().square().sum(0)

            module.register_forward_pre_hook(add)
    ids = tokenizer(ENGLISH, add_special_tokens=False)["input_ids"][:50]
    blocks = [[1, *ids[at : at + 15]] for at in range(0, 50, 15)]
    for block in blocks:
        model(torch.tensor([block]))
    assert found.num_blocks == len(blocks) == 4
    assert found.sums.keys() == sums.keys()
    assert len(sums) == 14
    for name, values in sums.items():
        assert found.counts[name] == 54
        np.testing.assert_allclose(found.sums[name], values.numpy(), rtol=1e-3)


def test_coarser_files_are_further_away(pico_untied: Path, tmp_path: Path) -> None:
    files = {kind: tmp_path / f"m.{kind}.gguf" for kind in ("f32", "q8_0", "q4_0")}
    model_to_gguf(pico_untied, files, metadata={})
    found = compare_models(
        [pico_untied, *files.values()], [ENGLISH], num_tokens=70, block_tokens=32
    )
    folder, same, fine, coarse = found
    assert folder.kl == 0
    assert folder.agreement == 1
    assert abs(same.kl) < 1e-7
    assert same.bits_per_character == pytest.approx(folder.bits_per_character, rel=1e-6)
    assert 1e-7 < fine.kl < coarse.kl / 4
    assert fine.num_bytes < same.num_bytes
    assert {one.num_tokens for one in found} == {70}


def test_bits_per_character_are_those_of_the_whole_model(pico_base: Path) -> None:
    (found,) = compare_models([pico_base], [ENGLISH], num_tokens=60, block_tokens=61)
    model, tokenizer = load_model(pico_base, dtype=torch.float32), load_tokenizer(pico_base)
    ids = tokenizer(ENGLISH, add_special_tokens=False)["input_ids"][:60]
    given = torch.tensor([[1, *ids]])
    loss = float(model(given, labels=given).loss) * 60 / np.log(2)
    assert found.bits_per_character == pytest.approx(loss / len(tokenizer.decode(ids)), rel=1e-5)


def test_other_tokenizers_and_empty_texts_are_refused(
    pico_base: Path, sentencepiece_other: Path
) -> None:
    with pytest.raises(ArtifactError, match="its tokenizer is not that of"):
        compare_models([pico_base, sentencepiece_other], [ENGLISH], num_tokens=9, block_tokens=9)
    with pytest.raises(DataError, match="no tokens"):
        compare_models([pico_base], [], num_tokens=9, block_tokens=9)


@pytest.fixture
def sentencepiece_other(tmp_path: Path) -> Path:
    make_pico_model(tmp_path / "other")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        file = tmp_path / "other" / name
        file.write_text(file.read_text().replace("<|im_end|>", "<|im_stop|>"))
    return tmp_path / "other"


@pytest.mark.slow
def test_types_of_a_real_model_keep_their_bounds(smollm2_gguf: Path, tmp_path: Path) -> None:
    folder = tmp_path / "smollm2"
    gguf_to_folder(smollm2_gguf, folder)
    text = (Path(__file__).parents[2] / "docs/recipe.md").read_text(encoding="utf-8")
    matrix = collect_imatrix(folder, [text[3000:]], datasets=[], num_tokens=512, block_tokens=512)
    kinds = ("q8_0", "q4_k_m", "q2_k")
    files = {kind: tmp_path / f"{kind}.gguf" for kind in kinds}
    model_to_gguf(folder, files, metadata={})
    better = tmp_path / "better.gguf"
    model_to_gguf(folder, {"q2_k": better}, metadata={}, importance=matrix.means())
    paths = [folder, *files.values(), better]
    found = compare_models(paths, [text[:3000]], num_tokens=384, block_tokens=384)
    kl = {one.model: one.kl for one in found}
    # Measured: 0.0015, 0.079, 0.52, and 0.37 with the matrix.
    assert kl["q8_0.gguf"] < 0.004
    assert 0.01 < kl["q4_k_m.gguf"] < 0.15
    assert 0.2 < kl["q2_k.gguf"] < 1
    assert kl["better.gguf"] < 0.9 * kl["q2_k.gguf"]
