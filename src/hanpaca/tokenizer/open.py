"""Open a tokenizer of either family, wherever it lies."""

from pathlib import Path

from hanpaca.errors import ArtifactError
from hanpaca.files import begins_as_gguf
from hanpaca.tokenizer.added import with_added_tokens
from hanpaca.tokenizer.byte_bpe import ByteBPE, byte_bpe_of_spec, is_byte_level, read_spec
from hanpaca.tokenizer.sentencepiece_bpe import FILE_NAME, SentencePieceBPE, read_sentencepiece

Extendable = ByteBPE | SentencePieceBPE
"""A `Vocabulary` that takes new pieces."""
_JSON = "tokenizer.json"


def open_tokenizer(path: Path) -> Extendable:
    """Read a byte-level `tokenizer.json` or a SentencePiece BPE `tokenizer.model`.

    Args:
        path: Either file under any name (`.json` is the first kind), or a folder with one of them.
            Where a folder has both, the `tokenizer.json` counts if it is byte-level and is taken
            for a conversion of the `tokenizer.model` otherwise.

    Raises:
        ArtifactError: Nothing there, damaged, random (dropout), or of another kind: Unigram,
            WordPiece, BPE without byte fallback.
        ResourceError: A `tokenizer.model`, and the packages that read it are not installed.
    """
    spec_file, model_file = (path / _JSON, path / FILE_NAME) if path.is_dir() else (path, path)
    if not spec_file.is_file() and not model_file.is_file():
        found = f"no {_JSON} or {FILE_NAME} in this folder" if path.is_dir() else "no such file"
        raise ArtifactError(f"{path}: {found}; give a {_JSON}, a {FILE_NAME} or a folder with one")
    _check_no_gguf(spec_file)
    if spec_file.suffix != ".json" or not spec_file.is_file():
        return with_added_tokens(read_sentencepiece(model_file))
    spec = read_spec(spec_file)
    if model_file != spec_file and model_file.is_file() and not is_byte_level(spec):
        return with_added_tokens(read_sentencepiece(model_file))
    return byte_bpe_of_spec(spec, path=spec_file)


def _check_no_gguf(file: Path) -> None:
    """Where a whole model is given for a tokenizer, it is not damaged."""
    if file.is_file() and begins_as_gguf(file):
        raise ArtifactError(
            f"{file}: a GGUF file, which a recipe takes as its base; here the folder of "
            "a model is needed"
        )
