"""Read and write a SentencePiece BPE tokenizer, `tokenizer.model`.

The file is a protocol buffer (`src/sentencepiece_model.proto` of google/sentencepiece): pieces with
scores in the order of their ids. In a BPE model the neighbours are joined first whose joined piece
has the highest score; of two equal ones the left one.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from hanpaca.errors import ArtifactError, ResourceError
from hanpaca.files import read_bytes

SPACE = "▁"
FILE_NAME = "tokenizer.model"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
"""Types of pieces: learned text, and such as no merge makes."""
_BYTE = 6
_NEVER = -1e8  # scores below this mean: only when nothing else can be joined
_BATCH = 10_000
_BPE = 2
_KINDS = {1: "Unigram", 2: "BPE", 3: "word", 4: "character"}


@dataclass(frozen=True)
class SentencePieceBPE:
    """A SentencePiece BPE tokenizer; a `Vocabulary`."""

    half_characters: ClassVar[bool] = False
    """A character that the base lacks is one piece in place of all its bytes."""
    path: Path
    """Where it was read from, for messages."""
    proto: Any = field(repr=False)
    """The whole file as a ModelProto; not to be changed."""
    processor: Any = field(compare=False)
    """The same as a working tokenizer."""
    inside: Any = field(compare=False)
    """The same without the space before a text, for what stands inside one."""
    ids: dict[str, int]
    """Every entry and its id."""
    special: frozenset[str]
    """Entries that no merge makes."""

    @property
    def next_id(self) -> int:
        """The id after the last one."""
        return len(self.ids)

    def surface(self, piece: str) -> bytes:
        """The UTF-8 bytes an entry stands for."""
        if self.proto.pieces[self.ids[piece]].type == _BYTE:
            return bytes([int(piece[3:5], 16)])
        return piece.replace(SPACE, " ").encode()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode texts without BOS and EOS."""
        return list(self.processor.encode(list(texts)))

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Turn ids back into texts."""
        return list(self.processor.decode([list(one) for one in ids]))

    def spell(self, surfaces: Sequence[bytes]) -> list[list[int]]:
        """Encode bytes as they would be encoded inside a text; half characters as byte tokens."""
        texts, halves = [], {}
        for number, surface in enumerate(surfaces):
            try:
                texts.append(surface.decode())
            except UnicodeDecodeError:
                halves[number] = [self.ids[f"<0x{byte:02X}>"] for byte in surface]
                texts.append("")
        encoded = self.inside.encode(texts)
        return [halves.get(number, ids) for number, ids in enumerate(encoded)]

    def normalize(self, text: str) -> str:
        """Change a text as the tokenizer does before it looks for pieces, but for spaces."""
        if not self.proto.normalizer_spec.precompiled_charsmap:
            return text
        return str(self.inside.normalize(text)).replace(SPACE, " ")

    def cut_runs(self, runs: Sequence[str]) -> Iterator[list[list[bytes]]]:
        """Cut normalized stretches of text into surfaces of tokens; each is one pre-token."""
        surfaces = [self.surface(piece.piece) for piece in self.proto.pieces]
        for start in range(0, len(runs), _BATCH):
            for ids in self.inside.encode(list(runs[start : start + _BATCH])):
                yield [[surfaces[i] for i in ids]]

    def extended(
        self,
        merges: Sequence[Sequence[bytes]],  # which the scores say already
        surfaces: Sequence[bytes],
    ) -> "tuple[SentencePieceBPE, list[str]]":
        """Append pieces with scores below all others, so that they join only what the base left.

        LLaMA gives runs of spaces -1e9, which stays lower still: no new piece begins with a bare
        space that they could want.

        Returns:
            The new tokenizer, and the pieces as it writes them.
        """
        proto = type(self.proto)()
        proto.CopyFrom(self.proto)
        normal = [piece.score for piece in proto.pieces if piece.type == NORMAL]
        lowest = min((score for score in normal if score > _NEVER), default=0.0)
        pieces = [surface.decode().replace(" ", SPACE) for surface in surfaces]
        for number, piece in enumerate(pieces):
            proto.pieces.add(piece=piece, score=lowest - 1 - number, type=NORMAL)
        return sentencepiece_of_proto(proto, path=self.path), pieces

    def rank_of(self) -> Callable[[str, str], float | None]:
        """How late two neighbours are joined: by the score of what they make; None if never."""
        ranks = {one.piece: -one.score for one in self.proto.pieces if one.type == NORMAL}
        return lambda left, right: ranks.get(left + right)

    def without(self, dropped: Collection[str]) -> "tuple[SentencePieceBPE, list[int]]":
        """Take pieces out; the ids close up.

        Returns:
            The smaller tokenizer, and for each of its ids the one that the piece had before.
        """
        gone = frozenset(dropped)
        kept = [number for number, one in enumerate(self.proto.pieces) if one.piece not in gone]
        proto = type(self.proto)()
        proto.CopyFrom(self.proto)
        del proto.pieces[:]
        proto.pieces.extend(self.proto.pieces[number] for number in kept)
        now = {number: place for place, number in enumerate(kept)}
        trainer = proto.trainer_spec
        trainer.vocab_size = len(kept)
        for role in ("unk_id", "bos_id", "eos_id", "pad_id"):
            setattr(trainer, role, now.get(getattr(trainer, role), getattr(trainer, role)))
        return sentencepiece_of_proto(proto, path=self.path), kept


def read_sentencepiece(path: Path) -> SentencePieceBPE:
    """Read `tokenizer.model`, or the one in a folder.

    Raises:
        ArtifactError: It is missing, damaged, or no BPE model with byte fallback.
        ResourceError: The packages that read it are not installed.
    """
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        raise ArtifactError(f"{file}: no such file; give a SentencePiece {FILE_NAME}")
    proto = parse_model(read_bytes(file), path=file)
    if proto.trainer_spec.model_type != _BPE:
        kind = _KINDS.get(proto.trainer_spec.model_type, "unknown")
        raise ArtifactError(f"{file}: it is a {kind} model; only BPE can be used")
    if not proto.trainer_spec.byte_fallback:
        raise ArtifactError(
            f"{file}: byte_fallback is off, so unknown characters are lost; only models with byte "
            "fallback can be used"
        )
    return sentencepiece_of_proto(proto, path=file)


def parse_model(data: bytes, *, path: Path) -> Any:  # noqa: ANN401  # a generated class
    """Parse any SentencePiece model; `path` is for messages.

    Raises:
        ArtifactError: It is damaged.
        ResourceError: The packages that read it are not installed.
    """
    proto = _schema().ModelProto()
    from google.protobuf.message import DecodeError  # after _schema, which says if it is missing

    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise ArtifactError(f"{path}: damaged or no SentencePiece model; copy it again") from error
    if not proto.pieces:
        raise ArtifactError(f"{path}: damaged or no SentencePiece model: it has no pieces")
    return proto


def new_model() -> Any:  # noqa: ANN401  # a generated class
    """Make an empty ModelProto.

    Raises:
        ResourceError: The packages that write it are not installed.
    """
    return _schema().ModelProto()


def sentencepiece_of_proto(proto: Any, *, path: Path) -> SentencePieceBPE:  # noqa: ANN401
    """Make a tokenizer from a ModelProto; `path` is for messages.

    Raises:
        ArtifactError: Sentencepiece refuses it, or an entry stands in it twice.
    """
    import sentencepiece

    inside = type(proto)()
    inside.CopyFrom(proto)
    inside.normalizer_spec.add_dummy_prefix = False
    ids = {piece.piece: number for number, piece in enumerate(proto.pieces)}
    if len(ids) < len(proto.pieces):
        raise ArtifactError(
            f"{path}: damaged: {len(proto.pieces) - len(ids)} pieces stand in twice"
        )
    try:
        whole, bare = (
            sentencepiece.SentencePieceProcessor(model_proto=one.SerializeToString())
            for one in (proto, inside)
        )
    except RuntimeError as error:
        raise ArtifactError(f"{path}: sentencepiece cannot use it: {error}") from error
    special = frozenset(piece.piece for piece in proto.pieces if piece.type != NORMAL)
    return SentencePieceBPE(path, proto, whole, bare, ids, special)


def _schema() -> ModuleType:
    try:
        from sentencepiece import sentencepiece_model_pb2
    except ImportError as error:
        raise ResourceError(
            "tokenizer.model cannot be read: pip install sentencepiece protobuf"
        ) from error
    return sentencepiece_model_pb2
