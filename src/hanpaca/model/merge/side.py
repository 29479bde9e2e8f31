"""What lies beside the weights of a merged model: configuration and tokenizer."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hanpaca.errors import ArtifactError
from hanpaca.model.bases import BIN_INDEX, Base
from hanpaca.model.checkpoint import copy_side_files
from hanpaca.model.headers import TOKENIZER_FILES
from hanpaca.model.merge.adapters import Adapter
from hanpaca.model.merge.plan import OutputTensor
from hanpaca.model.meta import EMBEDDING, HEAD, PARAMS, params_of

TOKENIZER_MODEL, TOKENIZER_JSON = "tokenizer.model", "tokenizer.json"
_PIECES_FIELD = b"\x0a"


def merged_config(base: Base, tensors: Sequence[OutputTensor]) -> dict[str, Any]:
    """`config.json` of the merged model."""
    by_name = {tensor.name: tensor for tensor in tensors}
    config = dict(base.config)
    if EMBEDDING in by_name:
        config["vocab_size"] = by_name[EMBEDDING].shape[0]
        config["tie_word_embeddings"] = HEAD not in by_name
        kind = str(by_name[EMBEDDING].dtype).removeprefix("torch.")
        config["torch_dtype" if "torch_dtype" in config else "dtype"] = kind
    return config


def tokenizer_folder(base: Base, adapters: Sequence[Adapter], *, num_rows: int) -> Path | None:
    """Whose tokenizer the merged model has: the last adapter's that brings one, or the base's.

    Args:
        base: The base.
        adapters: In order.
        num_rows: Of the merged embedding.

    Raises:
        ArtifactError: It has more pieces than the embedding has rows.
    """
    folders = [base.side_folder, *(adapter.folder for adapter in adapters)]
    having = [
        folder
        for folder in folders
        if (folder / TOKENIZER_MODEL).is_file() or (folder / TOKENIZER_JSON).is_file()
    ]
    if not having:
        # Meta keeps one tokenizer.model beside the folders of all sizes.
        beside = base.side_folder.resolve().parent
        return beside if (beside / TOKENIZER_MODEL).is_file() else None
    num_pieces = _num_pieces(having[-1])
    if num_pieces > num_rows:
        raise ArtifactError(
            f"{having[-1]}: the tokenizer has {num_pieces} pieces, the merged model {num_rows} "
            "rows: it is the tokenizer of another model (Chinese-LLaMA has 49953 pieces, "
            "Chinese-Alpaca 49954 with [PAD])"
        )
    return having[-1]


def _num_pieces(folder: Path) -> int:
    file = folder / TOKENIZER_JSON
    if not file.is_file():
        return _num_sentencepieces(folder / TOKENIZER_MODEL)
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        ids = [int(token["id"]) for token in tree.get("added_tokens") or []]
        vocabulary = tree["model"]["vocab"]
        ids += [len(vocabulary) - 1] if isinstance(vocabulary, list) else vocabulary.values()
        return max(ids, default=-1) + 1
    except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{file}: cannot be read: {error!r}") from error


def _num_sentencepieces(file: Path) -> int:
    """Count the pieces of a SentencePiece model: field 1 of the protobuf, again and again."""
    content, at, count = file.read_bytes(), 0, 0
    while content[at : at + 1] == _PIECES_FIELD:
        length = shift = 0
        at += 1
        while True:
            if at >= len(content) or shift > 28:
                raise ArtifactError(f"{file}: not a SentencePiece model; download it again")
            length |= (content[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if content[at - 1] < 0x80:
                break
        at, count = at + length, count + 1
    if count == 0 or at > len(content):
        raise ArtifactError(f"{file}: not a SentencePiece model; download it again")
    return count


def write_hugging_face_side(
    folder: Path, *, base: Base, config: Mapping[str, Any], tokenizer: Path | None
) -> None:
    """Write configuration, tokenizer and what else lay beside the base's weights."""
    copy_side_files(base.side_folder, folder)
    (folder / BIN_INDEX).unlink(missing_ok=True)
    (folder / PARAMS).unlink(missing_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    _copy_tokenizer(tokenizer, base, folder)


def write_meta_side(
    folder: Path, *, base: Base, config: Mapping[str, Any], tokenizer: Path | None
) -> None:
    """Write `params.json` and the tokenizer.

    Raises:
        ArtifactError: Meta's format cannot say what the configuration says.
    """
    (folder / PARAMS).write_text(json.dumps(params_of(config)) + "\n", encoding="utf-8")
    _copy_tokenizer(tokenizer, base, folder)


def _copy_tokenizer(tokenizer: Path | None, base: Base, folder: Path) -> None:
    if tokenizer is None:
        return
    if tokenizer != base.side_folder:
        for name in TOKENIZER_FILES:
            (folder / name).unlink(missing_ok=True)
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, folder / name)
