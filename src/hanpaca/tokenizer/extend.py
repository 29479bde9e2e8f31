"""Extend a vocabulary with whole-character pieces of one script, for both tokenizer families.

What holds for every extension made here, and why:

- Text without target characters keeps its ids. New merges come after all of the base's, so they
  only ever join what the base left; and each makes a piece that holds a target character, or the
  beginning of one that no other script shares.
- Any text is cut as the base cuts it, with some cuts removed (a coarsening), for the same reason.
- No new piece is dead: a piece's parts are always chosen before the piece.
- Decoding gives what the base gives.
- `tokenizer.model` and `tokenizer.json` give the same ids.

English is written in the letters of Vietnamese or Turkish. For such a script text to protect must
be given: what would form in it is never made, so that text keeps its ids, and as most pairs of
letters that English has at all occur in a few megabytes, other English nearly always does.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hanpaca.errors import ArtifactError, DataError, RecipeError
from hanpaca.tokenizer.byte_bpe import ByteBPE, read_spec
from hanpaca.tokenizer.convert import (
    differing_texts,
    spec_of_sentencepiece,
    write_sentencepiece_folder,
)
from hanpaca.tokenizer.evidence import (
    count_runs,
    forbidden_pieces,
    prior_runs,
    prior_sample,
    required_characters,
)
from hanpaca.tokenizer.folder import (
    CONFIG,
    listed_tokens,
    read_config,
    write_json,
    write_side_files,
)
from hanpaca.tokenizer.guarantees import (
    changed_texts,
    cut,
    dead_pieces,
    misread_texts,
    recut_texts,
)
from hanpaca.tokenizer.merges import Merge, choose_merges, final_uses, learn_merges
from hanpaca.tokenizer.probe import PROBE
from hanpaca.tokenizer.reading import open_tokenizer
from hanpaca.tokenizer.scripts import Punctuation, TargetScript, target_script
from hanpaca.tokenizer.sentencepiece_bpe import SentencePieceBPE
from hanpaca.tokenizer.vocabulary import text_of

Base = ByteBPE | SentencePieceBPE


@dataclass(frozen=True)
class Wishes:
    """What an extension should heed beside its texts.

    Attributes:
        punctuation: what of the script's punctuation new pieces may hold; text that has this
            punctuation but no letters of the script may change too.
        required: characters that must be one token each, such as a national standard's list.
        prior: pieces of a published vocabulary and the logarithms of their probabilities; see
            `read_prior`. With it texts may be left out.
        protected: texts that must keep their ids; needed for scripts that English uses.
    """

    punctuation: Punctuation = "runs"
    required: str = ""
    prior: Mapping[str, float] | None = None
    protected: Sequence[str] = ()


@dataclass(frozen=True)
class Extension:
    """New pieces for a base tokenizer.

    Attributes:
        pieces: the new vocabulary entries as the tokenizer's file writes them, in the order of
            their ids. Mostly whole characters and words; where a byte-level base spells a
            character with three or more tokens, also the half characters on the way.
        first_id: id of the first; the others follow without holes.
        spellings: for each piece, the base's token ids for the same bytes.
        tokenizer: the extended tokenizer.
    """

    pieces: tuple[str, ...]
    first_id: int
    spellings: tuple[tuple[int, ...], ...]
    tokenizer: Base


def extend_tokenizer(
    base: Path,
    texts: Iterable[str],
    *,
    num_pieces: int,
    scripts: Sequence[str] = ("Han",),
    wishes: Wishes = Wishes(),
) -> Extension:
    """Learn exactly `num_pieces` new pieces from texts; see the module for what is guaranteed.

    The result depends on the texts alone: not on the number of threads, nor (but for the sample
    that is used to check it) on their order.

    Args:
        base: folder with the base's `tokenizer.json` or `tokenizer.model`, or one of these files.
        texts: documents or lines, read once; only distinct stretches of target text are kept.
        num_pieces: number of new vocabulary entries, and so of new rows.
        scripts: Unicode script names of the target language, such as "Han", "Hangul", "Thai".
        wishes: what else is to be heeded.

    Raises:
        RecipeError: `num_pieces` or `scripts` make no sense, or fewer pieces are asked for than the
            required characters need.
        DataError: the texts have no target text, or too little for so many pieces; or some required
            characters cannot be made.
        ArtifactError: the base cannot be used, or the result fails its own check.
        ResourceError: the base is a `tokenizer.model` and the packages to read it are missing.
    """
    script = target_script(scripts, wishes.punctuation, in_english=bool(wishes.protected))
    if num_pieces < 1:
        raise RecipeError(f"num_pieces is {num_pieces}: ask for at least 1 new piece")
    old = open_tokenizer(base)
    _refuse_foreign_tokens(old)
    required = required_characters(wishes.required, script)
    runs, sample = count_runs(old, texts, script)
    if wishes.prior:
        made_up = prior_runs(old, dict(wishes.prior), script)
        sample = sample or prior_sample(made_up)
        runs.update(made_up)
    if not runs:
        source = "the texts have" if wishes.prior is None else "the texts and the prior have"
        raise DataError(f"{source} no {'/'.join(script.names)} characters: give others")
    runs.update(dict.fromkeys(required, 0))
    avoid = forbidden_pieces(cut(old, wishes.protected))
    merges = _learn(old, runs, script=script, num_pieces=num_pieces, avoid=avoid)
    new, pieces = _grow(old, merges, num_pieces, required)
    _check(old, new, pieces=pieces, required=required, script=script, sample=sample)
    _check_protected(old, new, wishes.protected)
    spellings = old.spell([new.surface(piece) for piece in pieces])
    return Extension(tuple(pieces), old.next_id, tuple(map(tuple, spellings)), new)


@dataclass(frozen=True)
class SizedExtension:
    """One of several sizes learned together.

    Attributes:
        tokenizer: the extended tokenizer; not checked as a finished one is.
        final_uses: how often each new piece occurs in the texts it was learned from.
    """

    tokenizer: Base
    final_uses: tuple[int, ...]


def extensions_of_sizes(
    base: Base, texts: Iterable[str], *, sizes: Sequence[int], script: TargetScript
) -> Iterator[SizedExtension]:
    """Learn once, for the largest size, and make a tokenizer of each; for curves.

    Where the texts are not enough for a size, the last one is as large as they allow.

    Args:
        base: the base tokenizer.
        texts: documents or lines, read once, before this returns.
        sizes: numbers of new pieces, growing.
        script: the target characters.

    Raises:
        DataError: the texts have no target text.
    """
    runs, _ = count_runs(base, texts, script)
    if not runs:
        raise DataError(f"the texts have no {'/'.join(script.names)} characters: give other texts")
    merges = _learn(base, runs, script=script, num_pieces=sizes[-1], avoid=set())
    return _sized(base, merges, sizes)


def _sized(base: Base, merges: Sequence[Merge], sizes: Sequence[int]) -> Iterator[SizedExtension]:
    known = {base.surface(piece) for piece in base.ids}
    num_pieces = 0
    for size in sizes:
        chosen = choose_merges(merges, known=known, num_pieces=size)
        if len(chosen.pieces) == num_pieces:
            return
        num_pieces, uses = len(chosen.pieces), final_uses(chosen.merges)
        new, _ = base.extended([merge.parts for merge in chosen.merges], chosen.pieces)
        yield SizedExtension(new, tuple(uses[piece] for piece in chosen.pieces))


def write_extension(extension: Extension, base: Path, folder: Path) -> None:
    """Write a tokenizer folder that `transformers.AutoTokenizer.from_pretrained` loads.

    Chat template and special tokens are copied from the base.

    Args:
        extension: what `extend_tokenizer` returned for this base.
        base: the folder or file it was made from.
        folder: where to write; made if missing, existing tokenizer files are replaced.

    Raises:
        ArtifactError: `folder` is the base itself, or `tokenizer_config.json` is damaged.
    """
    source = base if base.is_dir() else base.parent
    if folder.resolve() == source.resolve():
        raise ArtifactError(f"{folder}: is the base tokenizer itself; give another folder")
    tokenizer = extension.tokenizer
    if isinstance(tokenizer, SentencePieceBPE):
        write_sentencepiece_folder(tokenizer, source, folder)
        return
    config = read_config(source)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "tokenizer.json", tokenizer.spec)
    write_side_files(config, source, folder)


def _refuse_foreign_tokens(base: Base) -> None:
    """Refuse a folder whose side files add tokens: new pieces would take their ids."""
    folder = base.path.parent
    found = [(CONFIG, token, number) for token, number in listed_tokens(folder)]
    path = folder / "added_tokens.json"
    if path.is_file():
        more = read_spec(path)
        if not isinstance(more, dict):
            raise ArtifactError(f"{path}: damaged: it is no JSON object; copy the file again")
        found += [(path.name, token, number) for token, number in more.items()]
    for name, token, number in found:
        if base.ids.get(token) != number:
            raise ArtifactError(
                f"{folder / name}: it adds {token!r} as id {number}, and {base.path.name} does not "
                f"have it; new pieces start at id {base.next_id} and would collide: take it out, "
                f"or put it into {base.path.name} first"
            )


def _learn(
    base: Base,
    runs: Counter[str],
    *,
    script: TargetScript,
    num_pieces: int,
    avoid: Container[bytes],
) -> list[Merge]:
    merges = learn_merges(
        _words(base, runs),
        owns_prefix=script.owns_prefix if base.half_characters else None,
        num_merges=num_pieces,
        avoid=avoid,
    )
    return [m for m in merges if m.piece not in avoid and _is_target(m.piece, script)]


def _words(base: Base, runs: Counter[str]) -> Iterator[tuple[list[bytes], int]]:
    """Cut stretches of text as the base does; takes them out, as there may be millions."""
    listed = list(runs)
    for run, pretokens in zip(listed, base.cut_runs(listed), strict=True):
        count = runs.pop(run)
        for tokens in pretokens:
            yield tokens, count


def _is_target(piece: bytes, script: TargetScript) -> bool:
    """Half characters were checked when they were learned; text must hold a target character."""
    try:
        return script.owns(piece.decode())
    except UnicodeDecodeError:
        return True


def _grow(
    base: Base, merges: Sequence[Merge], num_pieces: int, required: Sequence[str]
) -> tuple[Base, list[str]]:
    """Choose pieces and make the extended tokenizer; a piece that turns out dead is replaced."""
    known = {base.surface(piece) for piece in base.ids}
    wanted = [character.encode() for character in required]
    lacking = [one for one, ids in zip(wanted, base.spell(wanted), strict=True) if len(ids) > 1]
    _refuse_impossible(lacking, merges)
    dead: set[bytes] = set()
    while True:
        chosen = choose_merges(
            merges,
            known=known,
            num_pieces=num_pieces,
            required=lacking,
            refused=dead.__contains__,
        )
        _refuse_wrong_number(len(chosen.pieces), num_pieces, len(lacking))
        new, pieces = base.extended([merge.parts for merge in chosen.merges], chosen.pieces)
        found = {new.surface(piece) for piece in _dead(new, pieces)}
        if found <= dead:
            return new, pieces
        dead |= found


def _refuse_impossible(lacking: Sequence[bytes], merges: Sequence[Merge]) -> None:
    made = {merge.piece for merge in merges}
    impossible = [character for character in lacking if character not in made]
    if impossible:
        raise DataError(
            f"required characters: {len(impossible)} cannot be made of whole tokens of this base, "
            f"such as {impossible[0].decode()!r}; take them out"
        )


def _refuse_wrong_number(found: int, wanted: int, num_required: int) -> None:
    if found > wanted:
        raise RecipeError(
            f"num_pieces is {wanted}, but {num_required} required characters are not in the base "
            f"and need {found} new pieces: ask for at least {found}"
        )
    if found < wanted:
        raise DataError(
            f"the texts give only {found} new pieces that occur twice or more, not {wanted}: give "
            f"more text of the target language or ask for {found} or fewer"
        )


def _dead(new: Base, pieces: Sequence[str]) -> list[str]:
    """List pieces that no text can produce, nor the merges alone (Llama 3 looks up whole words)."""
    dead = dead_pieces(new, pieces)
    if isinstance(new, ByteBPE):
        dead += [piece for piece in pieces if new.split(piece) != [piece]]
    return dead


def _check(
    base: Base,
    new: Base,
    *,
    pieces: Sequence[str],
    required: Sequence[str],
    script: TargetScript,
    sample: Sequence[str],
) -> None:
    """Prove the guarantees on the finished tokenizer; a failure means that the base is unusual."""
    other = [part for text in (*sample, *PROBE) for part in script.characters.split(text) if part]
    texts = [*sample, *PROBE, *map(" ".join, zip(PROBE, sample, strict=False))]
    expected_ids = base.ids | {piece: i for i, piece in enumerate(pieces, start=base.next_id)}
    spelled = zip(required, new.spell([one.encode() for one in required]), strict=True)
    _refuse_faults(
        base,
        {
            "ids of old entries moved": [] if new.ids == expected_ids else ["its vocabulary"],
            "unreachable new piece": [text_of(new.surface(piece)) for piece in _dead(new, pieces)],
            "required character of several tokens": [one for one, ids in spelled if len(ids) > 1],
            "new ids in text of other scripts": changed_texts(base, new, other),
            "not a coarsening of the base": recut_texts(base, new, texts),
            "decodes other than the base": misread_texts(base, new, texts),
            "tokenizer.json gives other ids than tokenizer.model": _disagreements(new, texts),
        },
    )


def _check_protected(base: Base, new: Base, protected: Sequence[str]) -> None:
    _refuse_faults(base, {"new ids in protected text": changed_texts(base, new, protected)})


def _disagreements(new: Base, texts: Sequence[str]) -> list[str]:
    if isinstance(new, ByteBPE):
        return []  # it has one file only
    return differing_texts(new, spec_of_sentencepiece(new), texts)


def _refuse_faults(base: Base, faults: Mapping[str, Sequence[str]]) -> None:
    for fault, examples in faults.items():
        if examples:
            raise ArtifactError(
                f"{base.path}: cannot be extended safely: {fault}, {len(examples)} times, such as "
                f"{examples[0][:60]!r}; please report this tokenizer"
            )
