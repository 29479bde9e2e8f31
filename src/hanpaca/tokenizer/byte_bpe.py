"""Read a byte-level BPE tokenizer from `tokenizer.json`.

The file format is that of the `tokenizers` library. A piece is written in the vocabulary with one
visible character for each byte (GPT-2's `bytes_to_unicode`), so the space of " the" shows as "Ġ".
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from tokenizers import Tokenizer, models

from hanpaca.errors import ArtifactError
from hanpaca.files import read_json


def _byte_characters() -> dict[int, str]:
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {
        byte: chr(256 + i) for i, byte in enumerate(hidden)
    }


BYTE_TO_CHARACTER = _byte_characters()
CHARACTER_TO_BYTE = {character: byte for byte, character in BYTE_TO_CHARACTER.items()}


def piece_of_bytes(data: bytes) -> str:
    """Write bytes the way the vocabulary does: `piece_of_bytes(" 白".encode()) == "ĠçĻ½"`."""
    return "".join(BYTE_TO_CHARACTER[byte] for byte in data)


def bytes_of_piece(piece: str) -> bytes:
    """Return the bytes of a vocabulary entry; characters outside the byte alphabet stay UTF-8."""
    return b"".join(
        bytes([CHARACTER_TO_BYTE[c]]) if c in CHARACTER_TO_BYTE else c.encode() for c in piece
    )


@dataclass(frozen=True)
class ByteBPE:
    """A byte-level BPE tokenizer; a `Vocabulary`."""

    half_characters: ClassVar[bool] = True
    """A character that the base lacks is put together byte by byte."""
    path: Path
    """Where it was read from, for messages."""
    spec: dict[str, Any] = field(repr=False)
    """The whole `tokenizer.json` as a tree; not to be changed."""
    backend: Tokenizer = field(compare=False)
    """The same as a working tokenizer, without truncation and padding."""
    merges: tuple[tuple[str, str], ...]
    """Pairs of vocabulary entries, most urgent first."""
    merges_only: models.BPE = field(compare=False)
    """The model without pre-tokenizer, normalizer and whole-word look-up."""
    ids: dict[str, int]
    """Every entry, special ones too, and its id."""
    special: frozenset[str]
    """Entries found as strings and not by merges."""

    @property
    def next_id(self) -> int:
        """The id after the last one: the number of entries, where ids have no holes."""
        return max(self.ids.values()) + 1

    def split(self, piece: str) -> list[str]:
        """Cut bytes, written as a piece, into the model's own pieces by its merges alone."""
        return [token.value for token in self.merges_only.tokenize(piece)]

    def surface(self, piece: str) -> bytes:
        """The UTF-8 bytes an entry stands for."""
        return piece.encode() if piece in self.special else bytes_of_piece(piece)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode texts without the special tokens that a model wants around them."""
        encoded = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encoded]

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Turn ids back into texts, special tokens written out."""
        return list(self.backend.decode_batch(list(ids), skip_special_tokens=False))

    def spell(self, surfaces: Sequence[bytes]) -> list[list[int]]:
        """Encode bytes as inside a text; half characters are no text: by the merges alone."""
        texts, halves = [], {}
        for number, surface in enumerate(surfaces):
            try:
                texts.append(surface.decode())
            except UnicodeDecodeError:
                halves[number] = [self.ids[part] for part in self.split(piece_of_bytes(surface))]
                texts.append("")
        encoded = self.encode(texts)
        return [halves.get(number, ids) for number, ids in enumerate(encoded)]

    def normalize(self, text: str) -> str:
        """Change a text as the tokenizer does before it looks for pieces."""
        normalizer = self.backend.normalizer
        return str(normalizer.normalize_str(text)) if normalizer else text

    def cut_runs(self, runs: Sequence[str]) -> Iterator[list[list[bytes]]]:
        """Cut normalized stretches of text into pre-tokens, and those into surfaces of tokens.

        Pieces must not reach over the cuts of the pre-tokenizer. A pre-token that has bytes the
        base does not know is left out.
        """
        pre_tokenizer = self.backend.pre_tokenizer
        for run in runs:
            pretokens = [piece for piece, _ in pre_tokenizer.pre_tokenize_str(run)]
            cut = [(piece, self.split(piece)) for piece in pretokens]
            yield [
                [bytes_of_piece(token) for token in tokens]
                for piece, tokens in cut
                if "".join(tokens) == piece
            ]

    def extended(
        self, merges: Sequence[Sequence[bytes]], surfaces: Sequence[bytes]
    ) -> "tuple[ByteBPE, list[str]]":
        """Append pieces and merges, in the base's own way of writing merges.

        Special tokens that are not in the vocabulary (Llama 3, Qwen) are written into it under
        their old ids: the `tokenizers` library numbers such tokens after the vocabulary when it
        loads a file, so they would all move otherwise.

        Returns:
            The new tokenizer, and the pieces as it writes them.
        """
        model = self.spec["model"]
        pieces = [piece_of_bytes(surface) for surface in surfaces]
        new_ids = {piece: i for i, piece in enumerate(pieces, start=self.next_id)}
        added_ids = {token["content"]: token["id"] for token in self.spec.get("added_tokens") or ()}
        as_text = any(isinstance(merge, str) for merge in model["merges"])
        pairs = [[piece_of_bytes(part) for part in parts] for parts in merges]
        new_merges = [" ".join(pair) if as_text else pair for pair in pairs]
        vocab = added_ids | model["vocab"] | new_ids
        spec = self.spec | {
            "model": model | {"vocab": vocab, "merges": model["merges"] + new_merges}
        }
        return byte_bpe_of_spec(spec, path=self.path), pieces

    def rank_of(self) -> Callable[[str, str], int | None]:
        """How late two neighbours are joined: the place of their merge; None if they never are."""
        places = {pair: place for place, pair in enumerate(self.merges)}  # the last of equal ones
        return lambda left, right: places.get((left, right))

    def without(self, dropped: Collection[str]) -> "tuple[ByteBPE, list[int]]":
        """Take entries out, with every merge that has to do with them; the ids close up.

        Returns:
            The smaller tokenizer, and for each of its ids the one that the entry had before.
        """
        gone, model = frozenset(dropped), self.spec["model"]
        kept = sorted((number, piece) for piece, number in self.ids.items() if piece not in gone)
        ids = {piece: number for number, (_, piece) in enumerate(kept)}
        pairs = zip(model["merges"], self.merges, strict=True)
        merges = [
            merge for merge, (left, right) in pairs if ids.keys() >= {left, right, left + right}
        ]
        spec = self.spec | {
            "model": model | {"vocab": ids, "merges": merges},
            "added_tokens": [
                token | {"id": ids[token["content"]]}
                for token in self.spec.get("added_tokens") or ()
            ],
            "post_processor": _renumbered(self.spec.get("post_processor"), ids, self.path),
        }
        if padding := self.spec.get("padding"):
            pad = dict(kept).get(padding.get("pad_id"), padding.get("pad_token"))
            spec["padding"] = padding | {"pad_id": ids.get(pad, 0)}
        return byte_bpe_of_spec(spec, path=self.path), [number for number, _ in kept]


def read_byte_bpe(folder: Path) -> ByteBPE:
    """Read `tokenizer.json` of a Hugging Face folder (GPT-2, Llama 3, Qwen, SmolLM2 style).

    Raises:
        ArtifactError: The file is missing, damaged, random (dropout) or not byte-level BPE.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; give a folder with a tokenizer.json")
    return byte_bpe_of_spec(read_spec(path), path=path)


def read_spec(path: Path) -> dict[str, Any]:
    """Read the tree of a `tokenizer.json` of any kind.

    Raises:
        ArtifactError: It is missing, too large, or no JSON object.
    """
    return read_json(path)


def is_byte_level(spec: object) -> bool:
    """Tell whether the tree of a `tokenizer.json` cuts text into bytes before all else."""
    return isinstance(spec, dict) and _byte_level_step(spec.get("pre_tokenizer")) is not None


def byte_bpe_of_spec(spec: object, *, path: Path) -> ByteBPE:
    """Make a tokenizer from the tree of a `tokenizer.json`; `path` is for messages.

    Raises:
        ArtifactError: The tree is damaged, random (dropout) or not byte-level BPE.
    """
    model = spec.get("model") if isinstance(spec, dict) else None
    if not isinstance(spec, dict) or not isinstance(model, dict):
        raise ArtifactError(f"{path}: damaged: it has no model section; copy the file again")
    reason = _why_not_byte_bpe(spec, model)
    if reason:
        raise ArtifactError(f"{path}: {reason}; only byte-level BPE without dropout can be used")
    merges = _merges(model, path)
    backend = _backend(spec, path)
    return ByteBPE(
        path=path,
        spec=spec,
        backend=backend,
        merges=merges,
        merges_only=models.BPE(vocab=model["vocab"], merges=merges),
        ids=backend.get_vocab(with_added_tokens=True),
        special=frozenset(token["content"] for token in spec.get("added_tokens") or ()),
    )


def _renumbered(step: Any, ids: Mapping[str, int], path: Path) -> Any:  # noqa: ANN401  # any JSON
    """A post-processor with the ids that its tokens have now.

    Raises:
        ArtifactError: It names a token that the vocabulary does not have.
    """
    if not isinstance(step, dict):
        return step
    step = dict(step)
    try:
        if "processors" in step:
            step["processors"] = [_renumbered(inner, ids, path) for inner in step["processors"]]
        if named := step.get("special_tokens"):  # TemplateProcessing
            step["special_tokens"] = {
                name: token | {"ids": [ids[one] for one in token["tokens"]]}
                for name, token in named.items()
            }
        for role in {"sep", "cls"} & step.keys():  # BertProcessing and RobertaProcessing
            step[role] = [step[role][0], ids[step[role][0]]]
    except KeyError as error:
        raise ArtifactError(
            f"{path}: post_processor names {error}, which is no entry of the vocabulary: mend it "
            "first"
        ) from error
    return step


def _backend(spec: dict[str, Any], path: Path) -> Tokenizer:
    try:
        backend = Tokenizer.from_str(json.dumps(spec))
    except Exception as error:  # the library raises no narrower class
        raise ArtifactError(f"{path}: damaged: {error}; copy the file again") from error
    backend.no_truncation()
    backend.no_padding()
    return backend


def _why_not_byte_bpe(spec: dict[str, Any], model: dict[str, Any]) -> str:
    kind = model.get("type", "BPE" if "merges" in model else "unknown")
    if kind != "BPE":
        return f"it is a {kind} tokenizer"
    if model.get("byte_fallback"):
        return "it is a SentencePiece-style tokenizer (byte_fallback): give its tokenizer.model"
    if model.get("dropout"):
        return f"model.dropout is {model['dropout']}, so encoding is random"
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            return f"model.{name} is {model[name]!r}"
    byte_level = _byte_level_step(spec.get("pre_tokenizer"))
    if byte_level is None:
        return "its pre_tokenizer has no ByteLevel step"
    if byte_level.get("add_prefix_space"):
        return "its ByteLevel step adds a space before every text (add_prefix_space)"
    return ""


def _byte_level_step(step: object) -> dict[str, Any] | None:
    if not isinstance(step, dict):
        return None
    if step.get("type") == "ByteLevel":
        return step
    found = (_byte_level_step(inner) for inner in step.get("pretokenizers") or ())
    return next((inner for inner in found if inner is not None), None)


def _merges(model: dict[str, Any], path: Path) -> tuple[tuple[str, str], ...]:
    vocab, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocab, dict) or not isinstance(merges, list) or not vocab:
        raise ArtifactError(f"{path}: damaged: model.vocab or model.merges is missing; copy again")
    if shared := [
        number for number, times in Counter(map(str, vocab.values())).items() if times > 1
    ]:
        raise ArtifactError(
            f"{path}: damaged: id {shared[0]} stands for several entries of model.vocab; "
            "copy the file again"
        )
    pairs = []
    for number, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        match parts:
            case [str(left), str(right)] if {left, right, left + right} <= vocab.keys():
                pairs.append((left, right))
            case _:
                raise ArtifactError(
                    f"{path}: damaged: model.merges[{number}] is {merge!r}, not two entries of "
                    "model.vocab that make a third; copy the file again"
                )
    return tuple(pairs)
