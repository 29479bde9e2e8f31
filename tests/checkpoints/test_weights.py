import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hanpaca.checkpoints.meta import hf_name
from hanpaca.checkpoints.shapes import MeasuredShape, measure
from hanpaca.checkpoints.tensors import Stored, in_one_piece
from hanpaca.checkpoints.weights import find_weights, read_weights
from hanpaca.errors import ArtifactError

HIDDEN, INNER, ROWS = 8, 12, 11
WHOLE = {
    "tok_embeddings": (ROWS, HIDDEN),
    "norm": (HIDDEN,),
    "output": (ROWS, HIDDEN),
    "layers.0.attention.wq": (HIDDEN, HIDDEN),
    "layers.0.attention.wo": (HIDDEN, HIDDEN),
    "layers.0.feed_forward.w1": (INNER, HIDDEN),
    "layers.0.feed_forward.w2": (HIDDEN, INNER),
    "layers.0.ffn_norm": (HIDDEN,),
}
BY_COLUMNS = ("tok_embeddings", "wo", "w2")


def write_meta(folder: Path, num_shards: int, by_columns: tuple[str, ...] = BY_COLUMNS) -> None:
    """Cut a model the way Meta does; rows that do not divide go to the last shard."""
    for shard in range(num_shards):
        parts = {"rope.freqs": torch.zeros(4)}
        for name, shape in WHOLE.items():
            tensor = torch.zeros(shape).half()
            if len(shape) == 2:
                dim = 1 if name.endswith(by_columns) else 0
                size = shape[dim] // num_shards
                last = shape[dim] - shard * size if shard == num_shards - 1 else size
                tensor = tensor.narrow(dim, shard * size, last).clone()
            parts[f"{name}.weight"] = tensor
        torch.save(parts, folder / f"consolidated.{shard:02d}.pth")


@pytest.mark.parametrize("num_shards", [1, 2, 4])
@pytest.mark.parametrize("by_columns", [BY_COLUMNS, BY_COLUMNS[1:]])
def test_shards_of_metas_layout_are_put_together(
    tmp_path: Path, num_shards: int, by_columns: tuple[str, ...]
) -> None:
    write_meta(tmp_path, num_shards, by_columns)
    weights = find_weights(tmp_path)
    assert weights is not None
    assert weights.layout == "meta"
    expected = {hf_name(f"{name}.weight"): shape for name, shape in WHOLE.items()}
    assert {name: one.shape for name, one in weights.tensors.items()} == expected
    assert measure(weights.tensors) == MeasuredShape(ROWS, HIDDEN, 1, INNER, tied=False)


def test_a_tensor_that_one_shard_lacks_is_told(tmp_path: Path) -> None:
    write_meta(tmp_path, 2)
    torch.save({"norm.weight": torch.zeros(HIDDEN)}, tmp_path / "consolidated.01.pth")
    with pytest.raises(ArtifactError, match=r"tok_embeddings\.weight is not in every shard"):
        find_weights(tmp_path)


def sharded(base: Path, folder: Path) -> Path:
    """The pico model in two shards with an index."""
    folder.mkdir()
    tensors = load_file(base / "model.safetensors")
    names = sorted(tensors)
    index: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


def edit_index(folder: Path, **changes: object) -> None:
    file = folder / "model.safetensors.index.json"
    tree = json.loads(file.read_text())
    file.write_text(json.dumps({"weight_map": {**tree["weight_map"], **changes}}))


def test_sharding_does_not_matter(pico_base: Path, tmp_path: Path) -> None:
    one, two = find_weights(pico_base), find_weights(sharded(pico_base, tmp_path / "m"))
    assert one is not None
    assert two is not None
    assert {name: (at.kind, at.shape) for name, at in one.tensors.items()} == {
        name: (at.kind, at.shape) for name, at in two.tensors.items()
    }
    assert two.missing == ()


def test_what_the_index_names_and_is_not_there_is_listed(pico_base: Path, tmp_path: Path) -> None:
    folder = sharded(pico_base, tmp_path / "m")
    edit_index(folder, lost="model-00001-of-00002.safetensors")
    (folder / "model-00002-of-00002.safetensors").unlink()
    weights = find_weights(folder)
    assert weights is not None
    assert weights.missing == ("model-00002-of-00002.safetensors", "lost")


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "..", "", 3, None])
def test_an_index_must_not_point_out_of_its_folder(
    pico_base: Path, tmp_path: Path, name: object
) -> None:
    folder = sharded(pico_base, tmp_path / "m")
    edit_index(folder, evil=name)
    with pytest.raises(ArtifactError, match=r"points outside the folder|damaged index"):
        find_weights(folder)


@pytest.mark.parametrize("text", ["{}", '{"weight_map": {}}', '{"weight_map": 3}', "[]", "{"])
def test_a_damaged_index_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "pytorch_model.bin.index.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"index\.json"):
        find_weights(tmp_path)


def test_a_tensor_in_two_shards_is_refused(pico_base: Path, tmp_path: Path) -> None:
    folder = sharded(pico_base, tmp_path / "m")
    first, second = sorted(folder.glob("*.safetensors"))
    shutil.copyfile(first, second)
    with pytest.raises(ArtifactError, match="is also in model-00001"):
        find_weights(folder)


def test_other_endings_are_refused_and_empty_folders_have_none(tmp_path: Path) -> None:
    assert find_weights(tmp_path) is None
    with pytest.raises(ArtifactError, match="weights are"):
        read_weights([tmp_path / "a.onnx"])


def tensor(shape: tuple[int, ...]) -> Stored:
    return in_one_piece(Path("m"), 0, shape, dtype="F16")


def test_layers_without_weights_are_found() -> None:
    tensors = {
        "model.embed_tokens.weight": tensor((10, 4)),
        "model.layers.0.mlp.gate_proj.weight": tensor((6, 4)),
        "model.layers.3.mlp.gate_proj.weight": tensor((6, 4)),
        "model.layers.9999999999.x.weight": tensor((6, 4)),
    }
    shape = measure(tensors)
    assert shape is not None
    assert shape.missing_layers == (1, 2)
    assert shape.tied
    assert measure({}) is None
