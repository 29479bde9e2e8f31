"""The rows of a model on disk are its weights, in every format, as other readers have them."""

import shutil
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file

from hanpaca.checkpoints.model import ModelFiles, open_model
from hanpaca.checkpoints.tensors import matrix_shape
from hanpaca.errors import ArtifactError
from hanpaca.merging import MergeOptions, merge_adapters
from hanpaca.steps.write_gguf import write_gguf
from tests.support.models import make_pico_model


def rows_of(model: ModelFiles, step: int) -> dict[str, torch.Tensor]:
    """Every tensor, put together from ranges that begin and end anywhere."""
    with model.rows() as tensors:
        found = {}
        for name, one in tensors.items():
            ends = range(0, matrix_shape(one.shape)[0], step)
            parts = [one.read(at, min(at + step, matrix_shape(one.shape)[0])) for at in ends]
            found[name] = torch.cat(parts).reshape(one.shape)
    return found


def in_format(base: Path, folder: Path, layout: str) -> Path:
    if layout == "safetensors":
        return base
    if layout == "bin":
        shutil.copytree(base, folder, ignore=shutil.ignore_patterns("*.safetensors"))
        torch.save(load_file(base / "model.safetensors"), folder / "pytorch_model.bin")
        return folder
    options = MergeOptions(format="pth", num_files=int(layout[-1]))
    merge_adapters(base, [], folder, options=options)
    return folder


@pytest.mark.parametrize("step", [5, 10_000])
@pytest.mark.parametrize("layout", ["safetensors", "bin", "meta 1", "meta 2"])
def test_rows_are_the_weights(pico_untied: Path, tmp_path: Path, layout: str, step: int) -> None:
    wanted = load_file(pico_untied / "model.safetensors")
    found = rows_of(open_model(in_format(pico_untied, tmp_path / "model", layout)), step)
    assert found.keys() == wanted.keys()
    for name, weight in wanted.items():
        assert torch.equal(found[name], weight.float()), name


def test_rows_of_a_quantized_file_have_the_precision_of_the_file(
    tmp_path: Path,
) -> None:
    """Against gguf-py: bfloat16, in which a folder made of the file has them, would be coarser."""
    make_pico_model(tmp_path / "wide", tied=False, hidden_size=256)
    file = write_gguf(tmp_path / "wide", tmp_path, types=["q4_k_m"])["q4_k_m"].file
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    name = "model.layers.0.mlp.gate_proj.weight"
    ours = stored["blk.0.ffn_gate.weight"]
    wanted = torch.from_numpy(gguf.quants.dequantize(ours.data, ours.tensor_type))
    found = rows_of(open_model(file), 7)[name]
    assert torch.equal(found, wanted)
    assert not torch.equal(found, wanted.bfloat16().float())


def test_a_weight_that_is_not_finite_is_named_with_its_file(
    pico_untied: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(pico_untied, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with (
        open_model(folder).rows() as tensors,
        pytest.raises(ArtifactError, match=r"model\.safetensors: model\.norm\.weight holds NaN"),
    ):
        tensors["model.norm.weight"].read(0, 8)
