import shutil
from pathlib import Path

import numpy as np
import pytest

from hanpaca.checkpoints.gguf import read_header
from hanpaca.checkpoints.gguf_model import open_gguf
from hanpaca.errors import ArtifactError
from hanpaca.gguf.types import FILE_TYPES
from hanpaca.gguf.verify import check_values, tensor_hashes
from hanpaca.steps.verify_gguf import verify_gguf
from hanpaca.steps.write_gguf import folder_to_gguf


def quiet(done: int, total: int) -> None:
    assert 0 < done <= total


@pytest.mark.parametrize("file_type", sorted(FILE_TYPES))
def test_what_was_made_of_a_model_is_found_to_be_of_it(
    file_type: str, pico_untied: Path, tmp_path: Path
) -> None:
    if file_type == "q2_k_s":
        pytest.skip("needs an importance matrix")
    file = tmp_path / "m.gguf"
    folder_to_gguf(pico_untied, file, file_type=file_type, metadata={})
    found = verify_gguf(file, pico_untied)
    assert len(found) == len(read_header(file).tensors)
    assert all(deviation.is_plausible for deviation in found)


def test_another_models_weights_and_order_are_found(
    pico_untied: Path, pico_base: Path, tmp_path: Path
) -> None:
    file = tmp_path / "m.gguf"
    folder_to_gguf(pico_untied, file, file_type="q8_0", metadata={})
    with pytest.raises(ArtifactError, match=r"has no lm_head\.weight"):
        verify_gguf(file, pico_base)
    header = read_header(file)
    query = header.tensors["blk.0.attn_q.weight"]
    data = bytearray(file.read_bytes())
    rows = np.frombuffer(data, np.uint8)[query.begin : query.begin + query.num_bytes].reshape(
        query.shape[0], -1
    )
    rows[[0, 1]] = rows[[1, 0]]
    file.write_bytes(data)
    strange = [d for d in verify_gguf(file, pico_untied) if not d.is_plausible]
    assert [d.name for d in strange] == ["model.layers.0.self_attn.q_proj.weight"]


def test_the_hash_of_the_changed_tensor_alone_changes(pico_untied: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    folder_to_gguf(pico_untied, file, file_type="f32", metadata={})
    header = read_header(file)
    before = tensor_hashes(file, header)
    check_values(open_gguf(file), quiet)
    other = tmp_path / "other.gguf"
    shutil.copyfile(file, other)
    with other.open("r+b") as stream:
        stream.seek(header.tensors["output_norm.weight"].begin)
        stream.write(np.float32("nan").tobytes())
    after = tensor_hashes(other, header)
    assert [name for name in before if before[name] != after[name]] == ["output_norm.weight"]
    with pytest.raises(ArtifactError, match=r"model\.norm\.weight holds NaN"):
        check_values(open_gguf(other), quiet)
