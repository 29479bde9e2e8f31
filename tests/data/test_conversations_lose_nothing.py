"""Whatever a row says is learned, or refused with its row, or named: over rows of many shapes."""

import json
from collections.abc import Iterator
from itertools import count, product
from pathlib import Path
from typing import Any

from hanpaca.data.conversations import read_conversations
from hanpaca.errors import DataError
from hanpaca.progress import Progress

EXTRAS: tuple[dict[str, Any], ...] = (
    {},
    {"system": "S"},
    {"history": [["H", "I"]]},
    {"history": [["H"]]},
    {"tools": "T"},
    {"chosen": "C", "rejected": "R"},
    {"weight": 0},
    {"label": False},
    {"train": False, "system": "S"},
    {"loss_mask": 0, "category": "K"},
    {"meta": {"source": "M"}},
    {"score": 0},
)
CONTENTS: tuple[Any, ...] = (
    "A",
    "  A\n",
    [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}],
    [{"type": "image_url", "image_url": "A"}],
    ["A", "B"],
    {"text": "A"},
    0,
    None,
    "",
)
TURNS = (("user", "assistant"), ("assistant",), ("user", "user", "assistant"), ("user", "tool"))


def rows() -> Iterator[dict[str, Any]]:
    for content, extra in product(CONTENTS, EXTRAS):
        yield {"instruction": "Q", "input": content, "output": "O", **extra}
        yield {"instruction": "Q", "output": content, **extra}
        for roles in TURNS:
            yield {"messages": [{"role": one, "content": content} for one in roles], **extra}
        names = {"user": "human", "assistant": "gpt"}
        yield {
            "conversations": [{"from": names[one], "value": content} for one in TURNS[0]],
            **extra,
        }
        marked = {"role": "assistant", "content": "O", **extra}
        yield {"messages": [{"role": "user", "content": content}, marked]}


def marked(tree: Any, numbers: Iterator[int]) -> Any:  # a JSON tree
    """The same with a number behind every text of one capital, so that each text is another."""
    match tree:
        case dict():
            return {key: marked(value, numbers) for key, value in tree.items()}
        case list():
            return [marked(value, numbers) for value in tree]
        case str() if tree.strip().isupper():
            return tree.replace(tree.strip(), f"{tree.strip()}<{next(numbers)}>")
    return tree


def texts(tree: Any) -> Iterator[str]:  # a JSON tree
    """Every marked text, and numbers."""
    match tree:
        case dict():
            for value in tree.values():
                yield from texts(value)
        case list():
            for value in tree:
                yield from texts(value)
        case str() if "<" in tree:
            yield tree


def is_quiet(tree: dict[str, Any]) -> bool:
    marks = [tree.get(key) for key in ("weight", "train", "label", "loss_mask")]
    return any(mark is False or mark == 0 for mark in marks if mark is not None)


def test_every_text_of_a_row_is_learned_refused_or_named(tmp_path: Path) -> None:
    numbers = count()
    table = [marked(row, numbers) for row in rows()]
    assert len(table) >= 800
    kinds = {"learned": 0, "unlearned": 0}
    refusals: list[str] = []
    for row in table:
        (tmp_path / "a.json").write_text(json.dumps([row]), encoding="utf-8")
        told: list[Progress] = []
        try:
            found = list(read_conversations([tmp_path / "a.json"], tell=told.append))
        except DataError as error:
            refusals.append(str(error))
            continue
        notes = [one.note for one in told]
        quiet = is_quiet(row) or is_quiet(row.get("messages", [{}])[-1])
        assert (not found) == quiet
        if quiet:
            assert "marked so" in notes[0]
            kinds["unlearned"] += 1
            continue
        [(talk, _)] = found
        learned = "\n".join(turn.content for turn in talk)
        for text in texts(row):
            holders = [key for key in row if text in texts(row[key])]
            inner = [key for key in row.get("messages", [{}])[-1] if key not in row]
            is_named = any(
                f"the key {key!r} is" in note for key in holders + inner for note in notes
            )
            assert text in learned or is_named, (row, notes)
        if row.get("input") == 0 and isinstance(row.get("input"), int):
            assert talk[-2].content.endswith("\n0")
        assert row.get("score") is None or any("'score'" in note for note in notes)
        kinds["learned"] += 1
    assert all("a.json:1: " in one for one in refusals)
    assert len(refusals) > 50
    assert all(number > 50 for number in kinds.values()), kinds
