from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from hanpaca.checkpoints.gguf_model import open_gguf
from hanpaca.checkpoints.gguf_names import gguf_name, hf_name, to_halves, to_interleaved
from hanpaca.errors import ArtifactError
from hanpaca.gguf.types import FILE_TYPES
from hanpaca.model.load import load_model
from hanpaca.steps.write_gguf import folder_to_gguf, gguf_to_folder


def test_names_go_both_ways() -> None:
    for name in (
        "model.embed_tokens.weight",
        "lm_head.weight",
        "model.layers.7.mlp.up_proj.weight",
    ):
        ours = gguf_name(name)
        assert ours is not None
        assert hf_name(ours) == name
    assert gguf_name("model.layers.0.self_attn.rotary_emb.inv_freq") is None


def test_rotary_rows_move_as_the_formats_say() -> None:
    """Row i of the first half and row i of the second half become rows 2i and 2i + 1."""
    rows = np.arange(2 * 6, dtype=np.float32).reshape(12, 1)
    moved = to_interleaved(rows, 2)[:, 0].tolist()
    assert moved == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]
    assert (to_halves(to_interleaved(rows, 2), 2) == rows).all()


@pytest.mark.parametrize("which", ["pico_base", "pico_untied"])
def test_a_model_and_its_tokenizer_come_back_exactly(
    which: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    base: Path = request.getfixturevalue(which)
    folder_to_gguf(base, tmp_path / "m.gguf", file_type="f32", metadata={"a.key": "value"})
    gguf_to_folder(tmp_path / "m.gguf", tmp_path / "back")
    before, after = (load_file(f / "model.safetensors") for f in (base, tmp_path / "back"))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
    old, new = (AutoTokenizer.from_pretrained(f) for f in (base, tmp_path / "back"))
    for text in ("Hello 1984, 白日依山尽", "<|im_start|>user\n\tx  y", "🎉 né"):
        assert old.encode(text) == new.encode(text)
    assert new.chat_template == old.chat_template
    ids = torch.tensor([[1, 5, 9, 12]])
    with torch.inference_mode():
        assert torch.equal(load_model(base)(ids).logits, load_model(tmp_path / "back")(ids).logits)
    fields = gguf.GGUFReader(tmp_path / "m.gguf").fields
    assert fields["a.key"].contents() == "value"


@pytest.mark.parametrize("file_type", sorted(FILE_TYPES))
def test_every_type_is_read_back_close_to_the_original(
    file_type: str, pico_untied: Path, tmp_path: Path
) -> None:
    folder_to_gguf(pico_untied, tmp_path / "m.gguf", file_type=file_type, metadata={})
    original = load_file(pico_untied / "model.safetensors")
    model = open_gguf(tmp_path / "m.gguf")
    bound = {"f32": 0, "f16": 1e-3, "bf16": 0, "q8_0": 0.006, "q6_k": 0.02}.get(file_type, 0.12)
    for name, tensor in original.items():
        exact = tensor.float().numpy()
        error = np.abs(model.weight(name) - exact).max() / np.abs(exact).max()
        assert error <= bound, name


@pytest.mark.parametrize(
    "content", [b"", b"GGUF", b"GGUF\x03\0\0\0" + b"\xff" * 16, b"not a model at all"]
)
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"m\.gguf"):
        open_gguf(tmp_path / "m.gguf")


def test_a_cut_file_is_refused(pico_base: Path, tmp_path: Path) -> None:
    folder_to_gguf(pico_base, tmp_path / "m.gguf", file_type="f16", metadata={})
    whole = (tmp_path / "m.gguf").read_bytes()
    for share in (0.05, 0.3, 0.7, 0.98):
        (tmp_path / "cut.gguf").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ArtifactError, match=r"cut\.gguf"):
            open_gguf(tmp_path / "cut.gguf")


def test_a_broken_weight_leaves_no_file(pico_base: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in pico_base.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"][3] = torch.nan
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=r"model\.norm\.weight: NaN"):
        folder_to_gguf(broken, tmp_path / "m.gguf", file_type="f16", metadata={})
    assert not list(tmp_path.glob("m.gguf*"))


def test_rows_without_a_piece_are_named_and_unused(pico_base: Path, tmp_path: Path) -> None:
    from hanpaca.tokenizer.conversion.gguf import read_vocabulary

    vocabulary = read_vocabulary(pico_base, 400)
    assert vocabulary.tokens[-1] == "[PAD399]"
    assert vocabulary.token_types[-1] == int(gguf.TokenType.UNUSED)
    with pytest.raises(ArtifactError, match="only 10 rows"):
        read_vocabulary(pico_base, 10)
