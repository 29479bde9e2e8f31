"""Pairs of answers: the usual layouts, what is wrong with a row, and how a pair lies in a block."""

import json
from pathlib import Path

import numpy as np
import pytest

from hanpaca.data.conversations import Message
from hanpaca.data.pack import pack, pack_pairs
from hanpaca.data.preferences import Preference, preference_row, read_preferences
from hanpaca.errors import DataError
from hanpaca.progress import Progress

Q = Message("user", "q", learned=False)
PAIR = Preference((Q,), "good", "bad")
LATER = (Q, Message("assistant", "a", learned=False), Message("user", "more", learned=False))


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def said(who: str, value: str) -> dict[str, str]:
    return {"from": who, "value": value}


HISTORY = [turn("user", "q"), turn("assistant", "a"), turn("user", "more")]


def write(path: Path, *rows: object) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"prompt": "q", "chosen": "good", "rejected": "bad"}, PAIR),
        ({"question": "q", "chosen": "good", "rejected": "bad"}, PAIR),
        (
            {"instruction": "q", "input": "i", "chosen": "good", "rejected": "bad"},
            Preference((Message("user", "q\ni", learned=False),), "good", "bad"),
        ),
        (
            {"system": "s", "question": "q", "chosen": "good", "rejected": "bad"},
            Preference((Message("system", "s", learned=False), Q), "good", "bad"),
        ),
        (
            {
                "prompt": "q",  # beside it, as UltraFeedback has it
                "chosen": [turn("user", "q"), turn("assistant", "good")],
                "rejected": [turn("user", "q"), turn("assistant", "bad")],
                "score_chosen": 8.5,
            },
            PAIR,
        ),
        (
            {
                "chosen": [*HISTORY, turn("assistant", "good")],
                "rejected": [*HISTORY, turn("assistant", "bad")],
            },
            Preference(LATER, "good", "bad"),
        ),
        (
            {
                "prompt": HISTORY,
                "chosen": [turn("assistant", "good")],
                "rejected": [turn("assistant", "bad")],
            },
            Preference(LATER, "good", "bad"),
        ),
        (
            {
                "conversations": [said("human", "q"), said("gpt", "a"), said("human", "more")],
                "chosen": said("gpt", "good"),
                "rejected": said("gpt", "bad"),
            },
            Preference(LATER, "good", "bad"),
        ),
    ],
)
def test_the_usual_layouts_are_read(
    tmp_path: Path, row: dict[str, object], wanted: Preference
) -> None:
    file = write(tmp_path / "a.jsonl", row)
    [(found, place)] = read_preferences([file])
    assert found == wanted
    assert place == f"{file}:1"
    [(again, _)] = read_preferences([write(tmp_path / "b.jsonl", preference_row(found))])
    assert again == found


BAD = [
    ({"prompt": "q", "chosen": "good"}, "rejected is missing or empty; found chosen, prompt"),
    ({"prompt": "q", "chosen": "", "rejected": "b"}, "chosen is missing or empty"),
    ({"prompt": "q", "chosen": " ", "rejected": "b"}, "chosen: field 'content' is empty"),
    ({"prompt": "q", "chosen": "same", "rejected": "same"}, "chosen and rejected are the same"),
    ({"chosen": "a", "rejected": "b"}, "begins with an answer, so that nothing is asked"),
    (
        {"prompt": "q", "chosen": [turn("bot", "a")], "rejected": "b"},
        "chosen: role 'bot' is unknown",
    ),
    ({"prompt": "q", "chosen": 3, "rejected": "b"}, "chosen: a list of objects with 'role'"),
    (
        {"prompt": "q", "chosen": "a", "rejected": [turn("user", "x"), turn("assistant", "b")]},
        "differ in more than their last answers",
    ),
    ({"prompt": "q", "chosen": [*HISTORY], "rejected": "b"}, "chosen ends with no answer"),
    ({"prompt": "q\ud800", "chosen": "a", "rejected": "b"}, "half a character"),
    ("[1]", "an object is needed, not list"),
    ("{oops", "not JSON"),
]


@pytest.mark.parametrize(("row", "message"), BAD)
def test_a_malformed_row_is_named(tmp_path: Path, row: object, message: str) -> None:
    good = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    text = row if isinstance(row, str) else json.dumps(row)
    file = write(tmp_path / "a.jsonl", good, text, good)
    with pytest.raises(DataError, match=rf"a\.jsonl:2: .*{message}"):
        list(read_preferences([file]))
    notes: list[Progress] = []
    found = list(read_preferences([file], skip_bad_rows=True, tell=notes.append))
    assert [place.rsplit(":", 1)[1] for _, place in found] == ["1", "3"]
    assert "1 bad rows are left out; the first: " in notes[-1].note


def test_both_answers_of_a_pair_lie_in_one_block_and_begin_at_0() -> None:
    chance = np.random.default_rng(0)
    pairs = []
    for number in range(30):
        sides = [[number] * int(size) for size in chance.integers(2, 16, size=2)]
        pairs.append(tuple((ids, [-100, *ids[1:]]) for ids in sides))
    blocks = pack_pairs(pairs, block_tokens=32, pad_id=99)  # type: ignore[arg-type]
    found = []
    for ids, positions in zip(blocks.input_ids, blocks.position_ids, strict=True):
        starts = np.flatnonzero(positions == 0)
        texts = [part.tolist() for part in np.split(ids, starts)[1:]]
        texts = texts[:-1] if texts[-1][0] == 99 else texts
        assert len(texts) % 2 == 0
        found += list(zip(texts[::2], texts[1::2], strict=True))
    wanted = [(first, second) for (first, _), (second, _) in pairs]
    assert sorted(found) == sorted(wanted)


def test_what_is_packed_alone_is_packed_as_before() -> None:
    sequences = [([number] * (5 + number), [number] * (5 + number)) for number in range(12)]
    blocks = pack(sequences, block_tokens=8, pad_id=99)
    assert int((blocks.input_ids != 99).sum()) == sum(len(ids) for ids, _ in sequences)
    with pytest.raises(DataError, match="there is nothing to train on"):
        pack_pairs([], block_tokens=8, pad_id=0)
