"""05-data: what is learned from and what is held out, as plain files."""

import hashlib
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain, compress, pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hanpaca.data.builtin.material import BuiltinMaterial, taking_turns
from hanpaca.data.conversations import (
    Conversation,
    as_row,
    from_row,
    read_conversations,
)
from hanpaca.data.docstrings import HELDOUT_PACKAGES, REPLAY_PACKAGES, docstring_prose
from hanpaca.data.hub import here
from hanpaca.data.jsonl import read_jsonl, write_jsonl, write_texts
from hanpaca.data.sources import Texts
from hanpaca.errors import DataError
from hanpaca.files import Artifact, describe_file
from hanpaca.progress import Tell, silent
from hanpaca.runs.builtin import build_sources, dictionary_of, package_files
from hanpaca.runs.layout import (
    CONVERSATIONS,
    QUESTIONS,
    REPLAY,
    REPLAY_HELDOUT,
    TASKS,
    TEXT,
    TEXT_HELDOUT,
    text_part,
)
from hanpaca.settings import Recipe

Item = TypeVar("Item")
Sources = Mapping[str, BuiltinMaterial]
"""By the word that a recipe names them with."""
_DOCSTRINGS = "builtin:docstrings"
_HELDOUT_REPLAY_CHARACTERS = 200_000
MIN_MEASURED = 2
"""Texts that an evaluation needs: with one there is no error bar."""


def external_inputs(recipe: Recipe) -> list[Artifact]:
    """The user's own files, and those of packages."""
    data = recipe.data
    named = dict.fromkeys((*data.text, *data.replay, *data.instructions))
    inputs: list[Artifact] = []
    for name in named:
        if not name.startswith("builtin:"):
            inputs += _described(recipe.locate(name), name)
        elif name != _DOCSTRINGS:
            inputs += package_files(name, recipe.language)
    return inputs


def tokenizer_inputs(recipe: Recipe) -> list[Artifact]:
    """The user's own files that the tokenizer stage reads beside the text."""
    section = recipe.tokenizer
    if section is None:
        return []
    named = [*(name for name in (section.required, section.prior) if name), *section.protect]
    return [file for name in named for file in _described(recipe.locate(name), name)]


def rows_inputs(recipe: Recipe) -> list[Artifact]:
    """The dictionary that the rows of new pieces are looked up in."""
    if recipe.rows.dictionary is None:
        return []
    return _described(dictionary_of(recipe), recipe.rows.dictionary)


def preference_inputs(recipe: Recipe) -> list[Artifact]:
    """The user's own files of preferences, which 55-dpo reads itself.

    So a run that is given them later keeps all that it did before.
    """
    found = [_described(recipe.locate(name), name) for name in recipe.data.preferences]
    return [file for described in found for file in described]


def write_materials(recipe: Recipe, folder: Path, *, tell: Tell = silent) -> Mapping[str, Any]:
    """Read, hold out, and write one JSON object a line."""
    sources = build_sources(recipe)
    learned, text_heldout = _documents(recipe, recipe.data.text, sources, tell)
    conversations, questions = _conversations(recipe, sources, tell)
    text_heldout = _measured(recipe, text_heldout, questions)
    replay, replay_heldout = _replay(recipe, tell)
    if recipe.pretrain and recipe.pretrain.weights:
        parts = {
            text_part(number + 1): learned[name] for number, name in enumerate(recipe.data.text)
        }
    else:
        parts = {TEXT: chain.from_iterable(learned.values())}
    written = [write_texts(folder / name, texts) for name, texts in parts.items()]
    for name, texts in (
        (TEXT_HELDOUT, text_heldout),
        (REPLAY, replay),
        (REPLAY_HELDOUT, replay_heldout),
    ):
        write_jsonl(folder / name, ({"text": one} for one in texts))
    write_jsonl(folder / CONVERSATIONS, map(as_row, conversations))
    write_jsonl(folder / QUESTIONS, questions)
    asked = [one for source in sources.values() for one in source.asked]
    if recipe.eval.tasks:
        kept = (one for one in asked if one.task in recipe.eval.tasks)
        write_jsonl(folder / TASKS, map(asdict, kept))
    return {
        "num_documents": sum(one.num_documents for one in written),
        "num_characters": sum(one.num_characters for one in written),
        "num_conversations": len(conversations),
        "num_heldout_documents": len(text_heldout),
        "num_heldout_questions": len(questions),
        "num_replay_characters": sum(map(len, replay)),
        "num_heldout_replay_characters": sum(map(len, replay_heldout)),
        **_left_out(sources.values()),
    }


def stored_conversations(file: Path) -> list[Conversation]:
    """Read back what `write_materials` wrote."""
    return [from_row(row) for row in read_jsonl(file)]


def _left_out(sources: Collection[BuiltinMaterial]) -> dict[str, int]:
    if not sources:
        return {}
    return {
        "num_dropped": sum(one.num_dropped for one in sources),
        "num_leaking": sum(one.num_leaking for one in sources),
    }


def _documents(
    recipe: Recipe, names: Sequence[str], sources: Sources, tell: Tell
) -> tuple[dict[str, Iterable[str]], list[str]]:
    """What is learned of each path, read while it is written, and what is held out."""
    own = _sources(recipe, names, tell)
    learned: dict[str, Iterable[str]] = {}
    heldout: list[str] = []
    if own.paths:
        sizes: list[int] = []
        first = _first_of_each(_counted(own.apart(), sizes))
        num_own = int(first.sum())
        _must_hold(range(num_own), own.paths, "text")
        num_heldout = 0 if sources else recipe.data.heldout_documents
        chosen = _chosen(num_own, num_heldout, recipe.seed, field="data.heldout_documents")
        kept = first.copy()
        kept[first.nonzero()[0][sorted(chosen)]] = False
        again = replace(own, tell=silent)
        heldout = list(compress(again, first & ~kept))
        ends = np.cumsum(sizes)
        files = [name for name in names if not name.startswith("builtin:")]
        for name, texts, size, end in zip(files, again.apart(), sizes, ends, strict=True):
            learned[name] = compress(texts, kept[end - size : end])
    read = {name: sources[name] for name in names if name in sources}
    learned |= {name: source.documents for name, source in read.items()}
    return learned, heldout + taking_turns([one.heldout_documents for one in read.values()])


def _counted(sources: Iterable[Texts], sizes: list[int]) -> Iterator[str]:
    """All texts of all sources; how many each had is added to `sizes`."""
    for source in sources:
        sizes.append(0)
        for text in source:
            sizes[-1] += 1
            yield text


def _measured(
    recipe: Recipe, heldout: list[str], questions: Sequence[Mapping[str, str]]
) -> list[str]:
    """The texts to measure on: without any text it is the answers held out."""
    field = "heldout_documents" if recipe.data.text else "heldout_questions"
    found = heldout if recipe.data.text else [one["reference"] for one in questions]
    if len(found) < MIN_MEASURED:
        raise DataError(
            f"data.{field}: {len(found)} held out, but at least {MIN_MEASURED} are needed to "
            "measure on: set it higher"
        )
    return found


def _first_of_each(texts: Iterable[str]) -> NDArray[np.bool_]:
    """Which documents say what none before them said, by 64 bits of a hash.

    Among ten million documents two that differ have one hash with a chance of 3 in a million.
    """
    hashes = np.fromiter(
        (
            int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
            for text in texts
        ),
        np.uint64,
    )
    first = np.zeros(len(hashes), np.bool_)
    first[np.unique(hashes, return_index=True)[1]] = True
    return first


def _conversations(
    recipe: Recipe, sources: Sources, tell: Tell
) -> tuple[list[Conversation], list[Mapping[str, str]]]:
    data, seed = recipe.data, recipe.seed
    if not data.instructions:
        return [], []
    paths = [recipe.locate(name) for name in data.instructions if name not in sources]
    found = read_conversations(
        paths, encoding=data.encoding, skip_bad_rows=data.skip_bad_rows, tell=tell
    )
    own = [conversation for conversation, _ in found]
    _must_hold(own, paths, "conversation")
    if named := [sources[name] for name in data.instructions if name in sources]:
        drills = [source.drills.get(task, ()) for source in named for task in recipe.eval.tasks]
        asked = taking_turns([source.heldout_questions for source in named])
        talks = chain(own, *(source.conversations for source in named), *drills)
        return list(talks), asked[: data.heldout_questions]
    heldout, learned = _split(own, data.heldout_questions, seed, field="data.heldout_questions")
    return learned, [question for one in heldout for question in _last_question(one)]


def _last_question(conversation: Conversation) -> list[Mapping[str, str]]:
    """The last thing a user asked and was answered, if there is one."""
    pairs: list[Mapping[str, str]] = [
        {"word": "", "question": asked.content, "reference": answer.content}
        for asked, answer in pairwise(conversation)
        if (asked.role, answer.role) == ("user", "assistant")
    ]
    return pairs[-1:]


def _replay(recipe: Recipe, tell: Tell) -> tuple[list[str], list[str]]:
    names, seed = recipe.data.replay, recipe.seed
    own = _read_texts(recipe, names, tell)
    learned: list[str] = []
    heldout: list[str] = []
    if len(own) > MIN_MEASURED:
        random.Random(seed).shuffle(own)
        size, most = 0, min(_HELDOUT_REPLAY_CHARACTERS, sum(map(len, own)) / 10)
        while len(own) > 1 and (len(heldout) < MIN_MEASURED or size < most):
            heldout.append(own.pop())
            size += len(heldout[-1])
    learned += own
    if _DOCSTRINGS in names:
        learned += docstring_prose(REPLAY_PACKAGES)
    # English is measured even where the recipe replays none, or next to none.
    if not heldout:
        heldout = docstring_prose(HELDOUT_PACKAGES)
        random.Random(seed).shuffle(heldout)
    return learned, heldout


def _read_texts(recipe: Recipe, names: Iterable[str], tell: Tell) -> list[str]:
    source = _sources(recipe, names, tell)
    texts = list(dict.fromkeys(source))
    _must_hold(texts, source.paths, "text")
    return texts


def _sources(recipe: Recipe, names: Iterable[str], tell: Tell) -> Texts:
    data = recipe.data
    paths = [recipe.locate(name) for name in names if not name.startswith("builtin:")]
    return Texts(tuple(paths), data.encoding, data.text_field, tell)


def _must_hold(found: Sequence[object], paths: Sequence[Path], what: str) -> None:
    if paths and not found:
        raise DataError(f"{', '.join(map(str, paths))}: there is no {what} in it")


def _split(
    items: Sequence[Item], num_heldout: int, seed: int, *, field: str
) -> tuple[list[Item], list[Item]]:
    """Draw some at random; the rest keeps its order."""
    chosen = _chosen(len(items), num_heldout, seed, field=field)
    return (
        [item for number, item in enumerate(items) if number in chosen],
        [item for number, item in enumerate(items) if number not in chosen],
    )


def _chosen(number: int, num_heldout: int, seed: int, *, field: str) -> set[int]:
    if num_heldout >= number:
        raise DataError(
            f"{field}: {num_heldout} cannot be held out of {number}; lower it or give more data"
        )
    return set(random.Random(seed).sample(range(number), num_heldout))


def _described(path: Path, name: str) -> list[Artifact]:
    path = here(path)
    if path.is_dir():
        return [
            describe_file(file, name=f"{name}/{file.relative_to(path).as_posix()}")
            for file in sorted(path.rglob("*"))
            if file.is_file()
        ]
    if not path.exists():
        raise DataError(f"{path}: no such file or folder (the recipe names it {name!r})")
    return [describe_file(path, name=name)]
