"""From counted stretches of text to an extended tokenizer: learn merges, choose among them."""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass

from hanpaca.errors import DataError, RecipeError
from hanpaca.tokenizer.extension.evidence import count_runs
from hanpaca.tokenizer.extension.merges import Merge, choose_merges, final_uses, learn_merges
from hanpaca.tokenizer.extension.proof import unreachable
from hanpaca.tokenizer.extension.scripts import TargetScript
from hanpaca.tokenizer.open import Extendable


def learned_merges(
    base: Extendable,
    runs: Counter[str],
    *,
    script: TargetScript,
    num_pieces: int,
    avoid: Container[bytes],
) -> list[Merge]:
    """Learn the merges of target pieces from stretches of text, which are used up.

    Args:
        base: Cuts the stretches first.
        runs: Stretches of target text and how often each occurs.
        script: What pieces may be made of.
        num_pieces: How many merges are wanted at most.
        avoid: Surfaces that must not be made.
    """
    merges = learn_merges(
        _words(base, runs),
        owns_prefix=script.owns_prefix if base.half_characters else None,
        num_merges=num_pieces,
        avoid=avoid,
    )
    return [m for m in merges if m.piece not in avoid and _is_target(m.piece, script)]


def _words(base: Extendable, runs: Counter[str]) -> Iterator[tuple[list[bytes], int]]:
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


def grown(
    base: Extendable, merges: Sequence[Merge], num_pieces: int, required: Sequence[str]
) -> tuple[Extendable, list[str]]:
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
        found = {new.surface(piece) for piece in unreachable(new, pieces)}
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


@dataclass(frozen=True)
class SizedExtension:
    """One of several sizes learned together."""

    tokenizer: Extendable
    """Extended; not checked as a finished one is."""
    final_uses: tuple[int, ...]
    """How often each new piece occurs in the texts it was learned from."""


def extensions_of_sizes(
    base: Extendable, texts: Iterable[str], *, sizes: Sequence[int], script: TargetScript
) -> Iterator[SizedExtension]:
    """Learn once, for the largest size, and make a tokenizer of each; for curves.

    Where the texts are not enough for a size, the last one is as large as they allow.

    Args:
        base: The base tokenizer.
        texts: Documents or lines, read once, before this returns.
        sizes: Numbers of new pieces, growing.
        script: The target characters.

    Raises:
        DataError: The texts have no target text.
    """
    runs, _ = count_runs(base, texts, script)
    if not runs:
        raise DataError(f"the texts have no {'/'.join(script.names)} characters: give other texts")
    merges = learned_merges(base, runs, script=script, num_pieces=sizes[-1], avoid=set())
    return _sized(base, merges, sizes)


def _sized(
    base: Extendable, merges: Sequence[Merge], sizes: Sequence[int]
) -> Iterator[SizedExtension]:
    known = {base.surface(piece) for piece in base.ids}
    num_pieces = 0
    for size in sizes:
        chosen = choose_merges(merges, known=known, num_pieces=size)
        if len(chosen.pieces) == num_pieces:
            return
        num_pieces, uses = len(chosen.pieces), final_uses(chosen.merges)
        new, _ = base.extended([merge.parts for merge in chosen.merges], chosen.pieces)
        yield SizedExtension(new, tuple(uses[piece] for piece in chosen.pieces))
