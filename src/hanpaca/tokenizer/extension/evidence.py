"""What new pieces are learned from: texts, a published list of pieces, required characters.

All of it becomes one thing: stretches of target text and how often each occurs.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import regex

from hanpaca.errors import DataError
from hanpaca.tokenizer.extension.scripts import TargetScript
from hanpaca.tokenizer.extension.train_merges import MIN_USES
from hanpaca.tokenizer.sentencepiece_bpe import NORMAL, SPACE, parse_model

PRIOR_WEIGHT = 6_000_000
"""A prior counts as much as this many pieces of text, about 40 MB of Chinese: it outweighs a small
corpus, and a large one outweighs it."""
_SAMPLE_CHARACTERS = 200_000  # of the texts, kept to check the finished tokenizer on
_SAMPLE_PIECES = 20
_UNIGRAM = 1
_ZIPF_SHIFT = 2.7  # Mandelbrot's, for words


class Reader(Protocol):
    """The base tokenizer, as far as it matters here."""

    @property
    def special(self) -> frozenset[str]:
        """Entries found as strings."""

    def normalize(self, text: str) -> str:
        """Change a text as the tokenizer does before it looks for pieces."""


def count_runs(
    base: Reader, texts: Iterable[str], script: TargetScript
) -> tuple[Counter[str], list[str]]:
    """Count the stretches of target text, and keep the first texts as a sample.

    Strings that the base takes out of a text whole (added tokens) end a stretch.
    """
    cut = _special_in(base, script)
    runs: Counter[str] = Counter()
    sample: list[str] = []
    room = _SAMPLE_CHARACTERS
    for text in texts:
        if room > 0:
            sample.append(text[:room])
            room -= len(text)
        for part in cut.split(text) if cut else (text,):
            runs.update(script.runs.findall(base.normalize(part)))
    return runs, sample


def _special_in(base: Reader, script: TargetScript) -> "regex.Pattern[str] | None":
    found = sorted(filter(script.owns, base.special), key=len, reverse=True)
    return regex.compile("|".join(map(regex.escape, found))) if found else None


def read_prior(path: Path) -> dict[str, float]:
    """Read a published list of pieces with the logarithms of their probabilities.

    Args:
        path: A SentencePiece `.model`, or lines of a piece, a tab and a log-probability. The scores
            of a BPE model are ranks; its pieces get the probabilities of Zipf's law (Mandelbrot's
            form).

    Raises:
        ArtifactError: The model is damaged.
        DataError: The file is missing, or a line is malformed.
        ResourceError: The packages that read a model are not installed.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a SentencePiece .model or lines of piece, tab")
    data = path.read_bytes()
    if path.suffix != ".model":
        return _listed_pieces(data, path)
    proto = parse_model(data, path=path)
    pieces = [piece for piece in proto.pieces if piece.type == NORMAL]
    if proto.trainer_spec.model_type == _UNIGRAM:
        return {piece.piece: piece.score for piece in pieces}
    return {piece.piece: -math.log(rank + _ZIPF_SHIFT) for rank, piece in enumerate(pieces)}


def read_required(path: Path) -> str:
    """Read a file of characters.

    Raises:
        DataError: It is missing or not UTF-8.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a file of characters")
    return _decoded(path.read_bytes(), path)


def _decoded(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8; convert the file") from error


def _listed_pieces(data: bytes, path: Path) -> dict[str, float]:
    pieces = {}
    for number, line in enumerate(_decoded(data, path).splitlines(), start=1):
        piece, tab, score = line.partition("\t")
        try:
            pieces[piece] = float(score)
        except ValueError:
            tab = ""
        if not tab or not -math.inf < pieces[piece] <= 0:
            raise DataError(
                f"{path}:{number}: {line[:40]!r} is not a piece, a tab and a log-probability"
            )
    return pieces


def prior_runs(base: Reader, prior: dict[str, float], script: TargetScript) -> Counter[str]:
    """Turn a list of pieces into a made-up text: each alone, as often as its probability says.

    BPE over it finds merges that make nearly all of the pieces, without any corpus. A piece that is
    not target text through and through is left out.
    """
    scores: defaultdict[str, list[float]] = defaultdict(list)
    cut = _special_in(base, script)
    for piece, score in prior.items():
        text = base.normalize(piece.replace(SPACE, " ").strip())
        if script.runs.fullmatch(text) and not (cut and cut.search(text)):
            scores[text].append(score)
    highest = max((max(some) for some in scores.values()), default=0.0)  # so that one is above 0
    weights = {
        text: sum(math.exp(score - highest) for score in some) for text, some in scores.items()
    }
    total = sum(weights.values())
    return Counter(
        {
            text: max(MIN_USES, round(PRIOR_WEIGHT * weight / total))
            for text, weight in weights.items()
        }
    )


def prior_sample(runs: Counter[str]) -> list[str]:
    """Make lines of the pieces, to check a tokenizer on where there is no text."""
    pieces = list(runs)
    return [
        "".join(pieces[i : i + _SAMPLE_PIECES]) for i in range(0, len(pieces), _SAMPLE_PIECES)
    ]  # fmt: skip


def required_characters(characters: str, script: TargetScript) -> list[str]:
    """Check a list of characters that must be covered; white space in it does not count.

    Raises:
        DataError: Some are not of the target script.
    """
    wanted = list(dict.fromkeys("".join(characters.split())))
    foreign = [character for character in wanted if not script.characters.fullmatch(character)]
    if foreign:
        raise DataError(
            f"required characters: {len(foreign)} are not {'/'.join(script.names)}, such as "
            f"{foreign[0]!r}; take them out"
        )
    return wanted


def forbidden_pieces(tokens: Iterable[Sequence[bytes]]) -> set[bytes]:
    """List what neighbours in protected text would make: no new piece may be one of these.

    As new merges come after all of the base's, the first new piece that could form in a text joins
    two tokens that stand side by side in the base's own encoding. If no such piece exists, none
    ever forms in this text.

    Args:
        tokens: Protected texts as the base cuts them, in surfaces.
    """
    return {left + right for one in tokens for left, right in pairwise(one)}
