"""Extend a byte-level BPE vocabulary with whole-character pieces of one script.

What holds for every extension made here, and why:

- Text without target characters keeps its ids. New merges come after all of the base's, so they
  only ever join what the base left; and each makes whole target characters or the beginning of
  one that no other script shares.
- Any text is cut as the base cuts it, with some cuts removed (a coarsening), for the same reason.
- No new piece is dead: a piece's parts are always chosen before the piece.
- Decoding gives what the base gives.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanpaca.errors import ArtifactError, DataError, RecipeError
from hanpaca.tokenizer.byte_bpe import (
    ByteBPE,
    byte_bpe_of_spec,
    read_byte_bpe,
    text_of_piece,
)
from hanpaca.tokenizer.guarantees import (
    changed_texts,
    dead_pieces,
    misread_texts,
    recut_texts,
)
from hanpaca.tokenizer.merges import Merge, choose_merges, final_uses, learn_merges
from hanpaca.tokenizer.scripts import TargetScript, target_script

# vocab.json and merges.txt say the same as tokenizer.json and would be out of date, so they stay.
_COMPANIONS = ("special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
_CONFIG = "tokenizer_config.json"
_SAMPLE_CHARACTERS = 200_000  # of the corpus, kept to check the finished tokenizer on
_PROBE = (
    "The quick brown fox jumps over the lazy dog, doesn't it?  People create theories.\n\n",
    "def f(x: int) -> str:\n\treturn f'{x:>12.3f}' if x != 0x1F else None  # 100%\r\n",
    "1984, 3.14159, 12:30, $1,000.00, 50 %, +1-2*3/4^5, a_b.c@d.org, https://e.org/?q=1&r=2#s",
    "Größe, naïveté, señor, œuvre, İstanbul, Łódź, tiếng Việt; “quotes” — dashes… • → ≤ ½ ฿ € ₩",
    "Привет, мир! Γειά σου κόσμε. שלום עולם. مرحبا بالعالم. नमस्ते दुनिया। สวัสดีชาวโลก",
    "こんにちは、カタカナ。「ー」 한국어 안녕하세요 ㄅㄆㄇ",
    "，。！？；：（）《》【】、·　＠ＡＢＣ１２３",
    "😀👩‍💻🇨🇳 🎉\u200b\u200d\ufeff\x00\x04\x7f\u00a0\u3000\t \n  \r\n   end ",
)


@dataclass(frozen=True)
class Extension:
    """New pieces for a base tokenizer.

    Attributes:
        pieces: the new vocabulary entries as `tokenizer.json` writes them (one visible character
            for a byte), in the order of their ids. Mostly whole characters; where the base spells
            a character with three or more tokens, also the half characters on the way.
        first_id: id of the first; the others follow without holes.
        spellings: for each piece, the base's token ids for the same bytes.
        spec: the extended `tokenizer.json` as a tree.
    """

    pieces: tuple[str, ...]
    first_id: int
    spellings: tuple[tuple[int, ...], ...]
    spec: dict[str, Any]


def extend_byte_bpe(
    base: Path, texts: Iterable[str], *, num_pieces: int, scripts: Sequence[str] = ("Han",)
) -> Extension:
    """Learn exactly `num_pieces` new pieces from texts; see the module for what is guaranteed.

    The result depends on the texts alone: not on the number of threads, nor (but for the sample
    that is used to check it) on their order.

    Args:
        base: folder with the base's `tokenizer.json`.
        texts: documents or lines, read once; only distinct runs of target characters are kept.
        num_pieces: number of new vocabulary entries, and so of new rows.
        scripts: Unicode script names of the target language, such as "Han", "Hangul", "Thai".

    Raises:
        RecipeError: `num_pieces` or `scripts` make no sense.
        DataError: the texts have no target text, or too little for so many pieces.
        ArtifactError: the base cannot be used, or the result fails its own check.
    """
    script = target_script(scripts)
    if num_pieces < 1:
        raise RecipeError(f"num_pieces is {num_pieces}: ask for at least 1 new piece")
    old = read_byte_bpe(base)
    runs, sample = _read_corpus(old, texts, script)
    merges = learn_merges(
        _pretokens(old, runs),
        split=old.split,
        owns_prefix=script.owns_prefix,
        num_merges=num_pieces,
    )
    chosen, pieces = choose_merges(merges, known=old.ids, num_pieces=num_pieces)
    if len(pieces) < num_pieces:
        raise DataError(
            f"the texts give only {len(pieces)} new pieces that occur twice or more, not "
            f"{num_pieces}: give more {'/'.join(scripts)} text or ask for {len(pieces)} or fewer"
        )
    spec = _extended_spec(old, chosen, pieces)
    new = byte_bpe_of_spec(spec, path=old.path)
    _check(old, new, pieces=pieces, sample=sample, script=script)
    return Extension(tuple(pieces), old.next_id, _spellings(old, pieces), spec)


@dataclass(frozen=True)
class SizedExtension:
    """One of several sizes learned together.

    Attributes:
        tokenizer: the extended tokenizer; not checked as a finished one is.
        final_uses: how often each new piece occurs in the texts it was learned from.
    """

    tokenizer: ByteBPE
    final_uses: tuple[int, ...]


def extensions_of_sizes(
    base: ByteBPE, texts: Iterable[str], *, sizes: Sequence[int], script: TargetScript
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
    runs, _ = _read_corpus(base, texts, script)
    merges = learn_merges(
        _pretokens(base, runs),
        split=base.split,
        owns_prefix=script.owns_prefix,
        num_merges=sizes[-1],
    )
    return _sized(base, merges, sizes)


def _sized(
    base: ByteBPE, merges: Sequence[Merge], sizes: Sequence[int]
) -> Iterator[SizedExtension]:
    num_pieces = 0
    for size in sizes:
        chosen, pieces = choose_merges(merges, known=base.ids, num_pieces=size)
        if len(pieces) == num_pieces:
            return
        num_pieces, uses = len(pieces), final_uses(chosen)
        yield SizedExtension(
            byte_bpe_of_spec(_extended_spec(base, chosen, pieces), path=base.path),
            tuple(uses[piece] for piece in pieces),
        )


def write_extension(extension: Extension, base: Path, folder: Path) -> None:
    """Write a tokenizer folder that `transformers.AutoTokenizer.from_pretrained` loads.

    Chat template and special tokens are copied from the base. `tokenizer_class` is set to
    PreTrainedTokenizerFast, because transformers 5 rebuilds the pre-tokenizer of some named
    classes (GPT2Tokenizer loses SmolLM2's digit splitting) and would give other ids.

    Args:
        extension: what `extend_byte_bpe` returned for this base.
        base: the folder it was made from.
        folder: where to write; made if missing, existing tokenizer files are replaced.

    Raises:
        ArtifactError: `folder` is the base itself, or `tokenizer_config.json` is damaged.
    """
    if folder.resolve() == base.resolve():
        raise ArtifactError(f"{folder}: is the base tokenizer itself; give another folder")
    config = _read_config(base / _CONFIG) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    folder.mkdir(parents=True, exist_ok=True)
    for name in _COMPANIONS:
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)
    _write_json(folder / _CONFIG, config)
    _write_json(folder / "tokenizer.json", extension.spec)


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{path}: damaged: {error}; copy the file again") from error
    if not isinstance(config, dict):
        raise ArtifactError(f"{path}: damaged: it is no JSON object; copy the file again")
    return config


def _write_json(path: Path, tree: dict[str, Any]) -> None:
    path.write_text(json.dumps(tree, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _read_corpus(
    base: ByteBPE, texts: Iterable[str], script: TargetScript
) -> tuple[Counter[str], list[str]]:
    """Count the runs of target characters, and keep the first texts as a sample."""
    normalizer = base.backend.normalizer
    runs: Counter[str] = Counter()
    sample: list[str] = []
    room = _SAMPLE_CHARACTERS
    for text in texts:
        if room > 0:
            sample.append(text[:room])
            room -= len(text)
        runs.update(script.runs.findall(normalizer.normalize_str(text) if normalizer else text))
    if not runs:
        raise DataError(f"the texts have no {'/'.join(script.names)} characters: give other texts")
    return runs, sample


def _pretokens(base: ByteBPE, runs: Counter[str]) -> Counter[str]:
    """Cut the runs as the base's pre-tokenizer does: pieces must not reach over its cuts."""
    pretokens: Counter[str] = Counter()
    for run, count in runs.items():
        for pretoken, _ in base.backend.pre_tokenizer.pre_tokenize_str(run):
            pretokens[pretoken] += count
    return pretokens


def _extended_spec(base: ByteBPE, chosen: Sequence[Merge], pieces: Sequence[str]) -> dict[str, Any]:
    """Append pieces and merges to the base's tree, in the base's own way of writing merges.

    Special tokens that are not in the vocabulary (Llama 3, Qwen) are written into it under their
    old ids: the `tokenizers` library numbers such tokens after the vocabulary when it loads a file,
    so they would all move otherwise.
    """
    model = base.spec["model"]
    new_ids = {piece: i for i, piece in enumerate(pieces, start=base.next_id)}
    added_ids = {token["content"]: token["id"] for token in base.spec.get("added_tokens") or ()}
    as_text = any(isinstance(merge, str) for merge in model["merges"])
    new_merges = [f"{m.left} {m.right}" if as_text else [m.left, m.right] for m in chosen]
    return base.spec | {
        "model": model
        | {"vocab": added_ids | model["vocab"] | new_ids, "merges": model["merges"] + new_merges}
    }


def _spellings(base: ByteBPE, pieces: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Spell pieces in base ids; by the merges alone, as half characters are no text."""
    return tuple(tuple(base.ids[part] for part in base.split(piece)) for piece in pieces)


def _check(
    base: ByteBPE,
    new: ByteBPE,
    *,
    pieces: Sequence[str],
    sample: Sequence[str],
    script: TargetScript,
) -> None:
    """Prove the guarantees on the finished tokenizer; a failure means that the base is unusual."""
    other = [part for text in (*sample, *_PROBE) for part in script.runs.split(text) if part]
    texts = [*sample, *_PROBE, *map(" ".join, zip(_PROBE, sample, strict=False))]
    expected_ids = base.ids | {piece: i for i, piece in enumerate(pieces, start=base.next_id)}
    dead = [*dead_pieces(new, pieces), *(p for p in pieces if new.split(p) != [p])]
    faults = {
        "ids of old entries moved": [] if new.ids == expected_ids else ["its vocabulary"],
        "unreachable new piece": [text_of_piece(piece) for piece in dead],
        "new ids in text of other scripts": changed_texts(base, new, other),
        "not a coarsening of the base": recut_texts(base, new, texts),
        "decodes other than the base": misread_texts(base, new, texts),
    }
    for fault, examples in faults.items():
        if examples:
            raise ArtifactError(
                f"{base.path}: cannot be extended safely: {fault}, {len(examples)} times, such as "
                f"{examples[0][:60]!r}; please report this tokenizer"
            )
