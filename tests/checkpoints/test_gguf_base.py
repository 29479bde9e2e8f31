"""A GGUF file as a base is the model that dequantizing it would give."""

from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hanpaca.checkpoints.fingerprint import model_fingerprint, tensors_fingerprint
from hanpaca.checkpoints.gguf_model import open_gguf
from hanpaca.checkpoints.model import open_model
from hanpaca.errors import ArtifactError
from hanpaca.merging import MergeOptions, merge_adapters, run_merge
from hanpaca.merging.fit import fit
from hanpaca.steps.combine import Combination, plan_combination
from hanpaca.steps.write_gguf import folder_to_gguf, gguf_to_folder
from hanpaca.tokenizer.conversion.gguf_side import write_gguf_side
from tests.support.merge_oracle import expected, factors, load_base, prefixed, write_adapter


@pytest.fixture(params=["pico_untied f16", "pico_untied q8_0", "pico_llama f16"])
def folder_and_file(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """Byte-level and SentencePiece vocabularies; plain and quantized."""
    name, file_type = request.param.split()
    folder: Path = request.getfixturevalue(name)
    output = tmp_path / "model.gguf"
    folder_to_gguf(folder, output, file_type=file_type, metadata={})
    return folder, output


@pytest.fixture
def file(folder_and_file: tuple[Path, Path]) -> Path:
    return folder_and_file[1]


def dequantized(file: Path) -> dict[str, Tensor]:
    """By gguf-py, in float32, rows in Hugging Face's order."""
    model = open_gguf(file)
    return {name: torch.from_numpy(model.weight(name).copy()) for name in model.tensors}


def test_a_merge_reads_it_in_full_precision(file: Path, tmp_path: Path) -> None:
    state = factors()
    adapter = write_adapter(tmp_path / "a", prefixed(state))
    for name in ("f32", "as-base"):
        dtype = torch.float32 if name == "f32" else torch.bfloat16
        options = MergeOptions(dtype=name)
        merge_adapters(
            open_model(file, write_side=write_gguf_side),
            [adapter],
            tmp_path / name,
            options=options,
        )
        found = load_file(tmp_path / name / "model.safetensors")
        wanted = expected(dequantized(file), state, 10 / 4, dtype)
        assert found.keys() == wanted.keys()
        for key, tensor in wanted.items():
            assert torch.equal(found[key], tensor), key


def test_it_is_the_folder_made_of_it(file: Path, tmp_path: Path) -> None:
    gguf_to_folder(file, tmp_path / "folder")
    base = open_model(file, write_side=write_gguf_side)
    assert tensors_fingerprint(base.tensors) == model_fingerprint(tmp_path / "folder")
    merge_adapters(base, [], tmp_path / "out")
    names = {file.name for file in (tmp_path / "folder").iterdir()}
    assert names == {file.name for file in (tmp_path / "out").iterdir()}
    assert {"config.json", "tokenizer.json", "model.safetensors"} <= names
    for name in names - {"config.json"}:
        one, two = (tmp_path / folder / name for folder in ("folder", "out"))
        assert one.read_bytes() == two.read_bytes(), name
    side = base.side_folder
    assert side.is_dir()
    del base
    assert not side.exists()


def test_it_can_be_added_up(folder_and_file: tuple[Path, Path], tmp_path: Path) -> None:
    folder, file = folder_and_file
    wanted = Combination([(folder, 0.5), (file, 0.5)], tokenizer=file)
    run_merge(plan_combination(wanted, MergeOptions(dtype="f32"))[0], tmp_path / "out")
    one, two = load_base(folder), dequantized(file)
    for name, tensor in load_file(tmp_path / "out/model.safetensors").items():
        assert torch.equal(tensor, one[name].float() * 0.5 + two[name] * 0.5), name


def test_an_adapter_of_another_model_is_refused(file: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    adapter = write_adapter(tmp_path / "a", prefixed(factors()))
    weights = adapter / "adapter_model.safetensors"
    base = open_model(file, write_side=write_gguf_side)
    for mark, fits in ((tensors_fingerprint(base.tensors), True), ("f" * 64, False)):
        save_file(prefixed(factors()), weights, {"hanpaca.base.fingerprint": mark})
        if fits:
            merge_adapters(base, [adapter], tmp_path / "fits")
        else:
            with pytest.raises(ArtifactError, match=r"another model than .*model\.gguf"):
                merge_adapters(base, [adapter], tmp_path / "out")


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_K", "Q6_K", "IQ4_NL"])
def test_rows_of_every_kind_are_decoded_by_themselves(kind: str) -> None:
    from gguf.constants import GGML_QUANT_SIZES
    from gguf.constants import GGMLQuantizationType as Type

    from hanpaca.checkpoints.gguf_values import decode

    elements, num_bytes = GGML_QUANT_SIZES[Type[kind]]
    assert elements in (32, 256)
    data = torch.randint(0, 64, (6, 2 * num_bytes), dtype=torch.uint8)
    whole = torch.from_numpy(gguf.quants.dequantize(data.numpy(), Type[kind]))
    parts = torch.cat([decode(kind, data[:2]), decode(kind, data[2:])])
    assert torch.equal(whole, parts)


def test_the_tokenizer_in_it_counts(file: Path) -> None:
    assert not fit(open_model(file, write_side=write_gguf_side)).warnings


@pytest.mark.slow
def test_a_published_file_is_read_as_gguf_py_reads_it(smollm2_gguf: Path, tmp_path: Path) -> None:
    merge_adapters(
        open_model(smollm2_gguf, write_side=write_gguf_side),
        [],
        tmp_path / "out",
        options=MergeOptions(dtype="f32"),
    )
    wanted = dequantized(smollm2_gguf)
    found = load_file(tmp_path / "out/model.safetensors")
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
