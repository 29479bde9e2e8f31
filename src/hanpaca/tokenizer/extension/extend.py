"""Extend a vocabulary with whole-character pieces of one script, for both tokenizer families.

What holds for every extension made here, and why:

- Text without characters of the target scripts and their punctuation keeps its ids. New merges come
  after all of the base's, so they only ever join what the base left; and each makes a piece that
  holds a target character, or the beginning of one that no other script shares.
- Any text is cut as the base cuts it, with some cuts removed (a coarsening), for the same reason.
- No new piece is dead: a piece's parts are always chosen before the piece.
- Decoding gives what the base gives.
- `tokenizer.model` and `tokenizer.json` give the same ids.

English is written in the letters of Vietnamese or Turkish. For such a script text to protect must
be given: what would form in it is never made, so that text keeps its ids, and as most pairs of
letters that English has at all occur in a few megabytes, other English nearly always does.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hanpaca.errors import ArtifactError, DataError, RecipeError
from hanpaca.progress import Progress, Tell, silent
from hanpaca.tokenizer.added import check_no_more_tokens
from hanpaca.tokenizer.byte_bpe import ByteBPE
from hanpaca.tokenizer.conversion.tokenizer_json import write_sentencepiece_folder
from hanpaca.tokenizer.extension.evidence import (
    count_runs,
    forbidden_pieces,
    prior_runs,
    prior_sample,
    read_prior,
    read_required,
    required_characters,
)
from hanpaca.tokenizer.extension.grow import grown, learned_merges
from hanpaca.tokenizer.extension.guarantees import cut
from hanpaca.tokenizer.extension.guess import named_or_guessed
from hanpaca.tokenizer.extension.proof import check_extension, check_protected
from hanpaca.tokenizer.extension.scripts import TargetScript, target_script
from hanpaca.tokenizer.extension.wishes import USUAL, Wishes
from hanpaca.tokenizer.folder import read_config, write_json, write_side_files
from hanpaca.tokenizer.open import Extendable, open_tokenizer
from hanpaca.tokenizer.sentencepiece_bpe import SentencePieceBPE

_PHASES = ("reading", "learning pieces", "choosing pieces", "checking")


@dataclass(frozen=True)
class Extension:
    """New pieces for a base tokenizer."""

    pieces: tuple[str, ...]
    """The new entries as the tokenizer's file writes them, in the order of their ids. Mostly whole
    characters and words; where a byte-level base spells a character with three or more tokens, also
    the half characters on the way."""
    first_id: int
    """Of the first new piece; the others follow without holes."""
    spellings: tuple[tuple[int, ...], ...]
    """For each piece, the base's token ids for the same bytes."""
    tokenizer: Extendable
    """The extended tokenizer."""
    notes: tuple[str, ...] = ()
    """What the user should know, a line each: scripts that were guessed, oddities of the base."""


def extend_tokenizer(
    base: Path | Extendable,
    texts: Iterable[str],
    *,
    num_pieces: int,
    scripts: Sequence[str] = (),
    wishes: Wishes = USUAL,
    tell: Tell = silent,
) -> Extension:
    """Learn exactly `num_pieces` new pieces from texts; see the module for what is guaranteed.

    The result depends on the texts alone: not on the number of threads, nor (but for the guess of
    scripts and the sample that is used to check it) on their order.

    Args:
        base: Folder with the base's `tokenizer.json` or `tokenizer.model`, or one of these files;
            or what `open_tokenizer` read there.
        texts: Documents or lines, read once; only distinct stretches of target text are kept.
        num_pieces: Number of new vocabulary entries, and so of new rows.
        scripts: Unicode script names of the target language, such as "Han", "Hangul", "Thai"; none
            to have them guessed from the texts.
        wishes: What else is to be heeded.
        tell: Called at the beginning of each phase.

    Raises:
        RecipeError: `num_pieces` or `scripts` make no sense, or fewer pieces are asked for than the
            required characters need.
        DataError: The texts have no target text, or too little for so many pieces; or some required
            characters cannot be made.
        ArtifactError: The base cannot be used, or the result fails its own check.
        ResourceError: The base is a `tokenizer.model` and the packages to read it are missing.
    """
    if num_pieces < 1:
        raise RecipeError(f"num_pieces is {num_pieces}: ask for at least 1 new piece")
    old = open_tokenizer(base) if isinstance(base, Path) else base
    check_no_more_tokens(old, f"new pieces start at id {old.next_id} and would collide")
    prior = read_prior(wishes.prior) if isinstance(wishes.prior, Path) else wishes.prior
    tell(_phase("reading"))
    names, texts = named_or_guessed(scripts, texts, otherwise=prior or ())
    script = target_script(names, wishes.punctuation, in_english=bool(wishes.protect))
    required = required_characters(_characters(wishes.required), script)
    runs, sample = _evidence(old, texts, prior, script)
    runs.update(dict.fromkeys(required, 0))
    tell(_phase("learning pieces"))
    avoid = forbidden_pieces(cut(old, wishes.protect))
    merges = learned_merges(old, runs, script=script, num_pieces=num_pieces, avoid=avoid)
    tell(_phase("choosing pieces"))
    new, pieces = grown(old, merges, num_pieces, required)
    tell(_phase("checking"))
    check_extension(old, new, pieces=pieces, required=required, script=script, sample=sample)
    check_protected(old, new, wishes.protect)
    spellings = tuple(map(tuple, old.spell([new.surface(piece) for piece in pieces])))
    notes = _notes(old, () if scripts else names)
    return Extension(tuple(pieces), old.next_id, spellings, new, notes)


def write_extension(extension: Extension, base: Path, folder: Path) -> None:
    """Write a tokenizer folder that `transformers.AutoTokenizer.from_pretrained` loads.

    Args:
        extension: What `extend_tokenizer` returned for this base.
        base: The folder or file it was made from.
        folder: Where to write; made if missing, existing tokenizer files are replaced.

    Raises:
        ArtifactError: `folder` is the base itself, or `tokenizer_config.json` is damaged.
    """
    source = base if base.is_dir() else base.parent
    if folder.resolve() == source.resolve():
        raise ArtifactError(f"{folder}: is the base tokenizer itself; give another folder")
    write_tokenizer(extension.tokenizer, source, folder)


def write_tokenizer(tokenizer: Extendable, source: Path, folder: Path) -> None:
    """Write the same, with the chat template and special tokens of the folder `source`.

    Raises:
        ArtifactError: The `tokenizer_config.json` there is damaged.
    """
    if isinstance(tokenizer, SentencePieceBPE):
        write_sentencepiece_folder(tokenizer, source, folder)
        return
    config = read_config(source)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "tokenizer.json", tokenizer.spec)
    write_side_files(config, source, folder, tokenizer.ids)


def _evidence(
    base: Extendable, texts: Iterable[str], prior: Mapping[str, float] | None, script: TargetScript
) -> tuple[Counter[str], list[str]]:
    """Stretches of target text with their counts, and texts to check the result on."""
    runs, sample = count_runs(base, texts, script)
    if prior:
        made_up = prior_runs(base, dict(prior), script)
        sample = sample or prior_sample(made_up)
        runs.update(made_up)
    if not runs:
        source = "the texts have" if prior is None else "the texts and the prior have"
        raise DataError(f"{source} no {'/'.join(script.names)} characters: give others")
    return runs, sample


def _phase(name: str) -> Progress:
    return Progress(_PHASES.index(name), len(_PHASES), "phases", name)


def _characters(required: str | Path) -> str:
    return read_required(required) if isinstance(required, Path) else required


def _notes(base: Extendable, guessed: Sequence[str]) -> tuple[str, ...]:
    notes = []
    if guessed:
        notes.append(f"scripts guessed from the text: {', '.join(guessed)}")
    if isinstance(base, ByteBPE) and (
        limit := (base.spec.get("truncation") or {}).get("max_length")
    ):
        notes.append(
            f"{base.path.name} of the base cuts every text after {limit} tokens (truncation), and "
            "so does the new one"
        )
    return tuple(notes)
