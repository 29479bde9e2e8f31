"""Which file of a folder counts, and one clear line for what cannot be read."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hanpaca.errors import ArtifactError
from hanpaca.tokenizer.byte_bpe import ByteBPE
from hanpaca.tokenizer.open import open_tokenizer
from hanpaca.tokenizer.sentencepiece_bpe import SentencePieceBPE

pb = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
BYTE_FALLBACK = {"model": {"type": "BPE", "byte_fallback": True, "vocab": {}, "merges": []}}


def write_model(path: Path, *, kind: int = 2, byte_fallback: bool = True) -> None:
    proto: Any = pb.ModelProto()
    proto.trainer_spec.model_type = kind
    proto.trainer_spec.byte_fallback = byte_fallback
    for piece, number in (("<unk>", 2), ("<s>", 3), ("</s>", 3)):
        proto.pieces.add(piece=piece, type=number)
    for byte in range(256 if byte_fallback else 0):
        proto.pieces.add(piece=f"<0x{byte:02X}>", type=6)
    proto.pieces.add(piece="▁", score=-1)
    path.write_bytes(proto.SerializeToString())


def test_a_folder_and_its_file_are_the_same(pico_base: Path, tmp_path: Path) -> None:
    for path in (pico_base, pico_base / "tokenizer.json"):
        assert isinstance(open_tokenizer(path), ByteBPE)
    write_model(tmp_path / "tokenizer.model")
    shutil.copy(tmp_path / "tokenizer.model", tmp_path / "other.v1")
    for path in (tmp_path, tmp_path / "tokenizer.model", tmp_path / "other.v1"):
        assert isinstance(open_tokenizer(path), SentencePieceBPE)


def test_beside_a_conversion_the_model_counts(tmp_path: Path) -> None:
    write_model(tmp_path / "tokenizer.model")
    (tmp_path / "tokenizer.json").write_text(json.dumps(BYTE_FALLBACK))
    assert isinstance(open_tokenizer(tmp_path), SentencePieceBPE)


def test_beside_a_byte_level_json_the_model_does_not_count(pico_base: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "tokenizer.model")
    shutil.copy(pico_base / "tokenizer.json", tmp_path)
    assert isinstance(open_tokenizer(tmp_path), ByteBPE)


def spec_with(**changes: Any) -> Callable[[Path, Path], Path]:
    def write(folder: Path, base: Path) -> Path:
        spec = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
        for field, value in changes.items():
            section = spec["model"] if field in ("type", "dropout", "byte_fallback") else spec
            section[field] = value
        (folder / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
        return folder

    return write


def damaged_json(folder: Path, base: Path) -> Path:
    text = (base / "tokenizer.json").read_text(encoding="utf-8")
    (folder / "tokenizer.json").write_text(text[:-50], encoding="utf-8")
    return folder


def model_with(data: bytes | None = None, **options: Any) -> Callable[[Path, Path], Path]:
    def write(folder: Path, base: Path) -> Path:
        write_model(folder / "tokenizer.model", **options)
        if data is not None:
            (folder / "tokenizer.model").write_bytes(data)
        return folder

    return write


def gguf_model(folder: Path, base: Path) -> Path:
    (folder / "model.gguf").write_bytes(b"GGUF\x03\0\0\0")
    return folder / "model.gguf"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder, base: folder, "no tokenizer.json or tokenizer.model in this folder"),
        (lambda folder, base: folder / "none.model", "no such file"),
        (lambda folder, base: folder / "none.json", "no such file"),
        (spec_with(type="WordPiece"), "it is a WordPiece tokenizer"),
        (spec_with(type="Unigram"), "it is a Unigram tokenizer"),
        (spec_with(dropout=0.1), "model.dropout is 0.1, so encoding is random"),
        (spec_with(byte_fallback=True), "give its tokenizer.model"),
        (spec_with(pre_tokenizer=None), "no ByteLevel step"),
        (spec_with(decoder={"type": "Nonsense"}), "damaged"),
        (damaged_json, "damaged"),
        (model_with(kind=1), "it is a Unigram model"),
        (model_with(byte_fallback=False), "byte_fallback is off"),
        (model_with(b""), "damaged or no SentencePiece model"),
        (model_with(b"\x0a\xff\xff\xff"), "damaged or no SentencePiece model"),
        (model_with(b"no tokenizer at all"), "damaged or no SentencePiece model"),
        (gguf_model, "a GGUF file.* the folder of a model is needed"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(
    make: Callable[[Path, Path], Path], message: str, pico_base: Path, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match=message) as error:
        open_tokenizer(make(tmp_path, pico_base))
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)
