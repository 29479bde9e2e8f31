"""What is kept, what goes, and that both are accounted for."""

import doctest
import importlib
import json
import random
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanpaca.data.cleaning.minhash import Banding
from hanpaca.data.cleaning.settings import CleanSettings
from hanpaca.errors import ArtifactError, DataError, RecipeError
from hanpaca.files import PARTIAL
from hanpaca.progress import Progress
from hanpaca.steps.check_data import check_data
from hanpaca.steps.clean_data import clean_data

POEMS = (
    "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。",
    "床前明月光，疑是地上霜。举头望明月，低头思故乡。",
)
QUESTION = "下列哪一项不属于我国古代四大发明之一的是什么东西"


def write(path: Path, texts: list[str]) -> Path:
    lines = [
        json.dumps({"text": text, "id": n}, ensure_ascii=False) for n, text in enumerate(texts)
    ]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def jaccard(one: str, other: str) -> float:
    shingles = [{text[i : i + 5] for i in range(max(1, len(text) - 4))} for text in (one, other)]
    return len(shingles[0] & shingles[1]) / len(shingles[0] | shingles[1])


def varied(seed: int, num_texts: int) -> list[str]:
    """Texts of which many say nearly the same as others."""
    random_ = random.Random(seed)
    bases = ["".join(chr(random_.randrange(0x4E00, 0x9000)) for _ in range(120)) for _ in range(8)]
    found = []
    for _ in range(num_texts):
        letters = list(random_.choice(bases))
        for _ in range(random_.randrange(9)):
            letters[random_.randrange(len(letters))] = "改"
        found.append("".join(letters[random_.randrange(12) :]))
    return found


@pytest.mark.parametrize("module", ["check_data", "clean_data"])
def test_the_examples_of_the_docstrings_hold(module: str, tmp_path: Path) -> None:
    text = write(tmp_path / "a.jsonl", [POEMS[0], POEMS[1], POEMS[0]])
    names = {"TEXT": text, "OUTPUT": tmp_path / "out.jsonl"}
    found = doctest.testmod(importlib.import_module(f"hanpaca.steps.{module}"), extraglobs=names)
    assert found.attempted > 0
    assert found.failed == 0


ROWS = st.lists(
    st.one_of(
        st.sampled_from(
            [*POEMS, POEMS[0].replace("白", "黑"), " ", "", "a", "A", QUESTION, "ｂ b"]
        ),
        st.text(alphabet="山水ab \n　", max_size=12),
    ),
    min_size=1,
    max_size=30,
)
RULES = st.builds(
    CleanSettings,
    min_characters=st.integers(1, 4),
    max_characters=st.sampled_from([None, 4, 20]),
    scripts=st.sampled_from([(), ("Han",), ("Han", "Latin")]),
    exact_duplicates=st.booleans(),
    near_duplicates=st.sampled_from([0, 0.5, 0.8, 1.0]),
)


@settings(max_examples=60)
@given(texts=ROWS, rules=RULES)
def test_every_row_is_kept_in_its_order_or_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], rules: CleanSettings
) -> None:
    folder = tmp_path_factory.mktemp("clean")
    path = write(folder / "in.jsonl", texts)
    held_out = write(folder / "held.jsonl", [QUESTION])
    kept, gone = folder / "out.jsonl", folder / "gone.jsonl"
    checked = check_data([path], settings=rules, evaluation=[held_out])
    if not checked.num_kept:
        with pytest.raises(DataError, match="no row is left"):
            clean_data([path], kept, settings=rules, evaluation=[held_out])
        assert not kept.exists()
        return
    found = clean_data([path], kept, settings=rules, dropped=gone, evaluation=[held_out])
    assert found.tree() | {"output": None} == checked.tree()  # two commands, one answer
    before = lines_of(path)
    numbers = [before.index(line) for line in lines_of(kept)]
    assert numbers == sorted(numbers)
    accounts = [json.loads(line) for line in lines_of(gone)]
    places = [int(one["place"].rpartition(":")[2]) - 1 for one in accounts]
    assert sorted([*numbers, *places]) == list(range(len(texts)))
    reasons = [one["reason"] for one in accounts]
    assert {name: reasons.count(name) for name in reasons} == found.dropped
    assert found.num_rows == len(texts) == found.num_kept + sum(found.dropped.values())
    for account, place in zip(accounts, places, strict=True):
        assert account["row"] in ("", before[place])
        if account["detail"].startswith("repeats"):
            assert int(account["detail"].rpartition(":")[2]) - 1 in numbers
    again = folder / "again.jsonl"
    twice = clean_data([kept], again, settings=rules, evaluation=[held_out])
    assert again.read_bytes() == kept.read_bytes()
    assert not twice.dropped


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_pairs_above_the_threshold_stay_as_rarely_as_is_said(tmp_path: Path, seed: int) -> None:
    path, kept = write(tmp_path / "in.jsonl", varied(seed, 300)), tmp_path / "out.jsonl"
    found = clean_data([path], kept)
    texts = [json.loads(line)["text"] for line in lines_of(kept)]
    banding = Banding.of(0.8)
    # Each kept pair was looked at and missed, of at most all pairs of such similarity in the file.
    every = [jaccard(one, other) for one, other in combinations(varied(seed, 300), 2)]
    missed = [jaccard(one, other) for one, other in combinations(texts, 2)]
    for least in (0.8, 0.85, 0.9):
        expected = sum(1 - banding.found_probability(one) for one in every if one >= least)
        assert sum(one >= least for one in missed) <= expected + 3 * expected**0.5
    assert sum(one >= 0.8 for one in every) > 300
    assert found.dropped["near duplicate"] > 60


def test_each_rule_lets_go_what_it_names_and_the_first_that_fits_is_told(tmp_path: Path) -> None:
    texts = [
        POEMS[0],
        "ab",
        "An English line of some length.",
        POEMS[0],
        f"又问{QUESTION}？",
        "1234567",
    ]
    path = write(tmp_path / "in.jsonl", texts)
    held_out = tmp_path / "held.json"
    held_out.write_text(
        json.dumps([{"question": QUESTION, "choices": ["火药", "印刷"], "answer": 1}])
    )
    rules = CleanSettings(min_characters=4, scripts=("han",))
    found = check_data([path], settings=rules, evaluation=[held_out])
    assert dict(found.dropped) == {
        "too short": 1,
        "other script": 1,
        "leak": 1,
        "exact duplicate": 1,
    }
    assert found.evaluation is not None
    assert (found.evaluation.num_texts, found.evaluation.num_short) == (3, 2)
    assert found.repeated == (f"{path}:4 repeats {path}:1",)
    assert found.num_without_letters == 1


def test_a_row_that_goes_is_no_original_of_a_duplicate(tmp_path: Path) -> None:
    """A wide text over the limit goes; the same text in narrow letters is within it and stays."""
    path = write(tmp_path / "in.jsonl", ["ab  ab  ab", "ab ab ab", "AB ab ab"])
    found = check_data([path], settings=CleanSettings(max_characters=8))
    assert dict(found.dropped) == {"too long": 1, "exact duplicate": 1}
    assert found.repeated == (f"{path}:3 repeats {path}:2",)


def test_lengths_scripts_and_tokens_are_counted(tmp_path: Path, pico_base: Path) -> None:
    path = write(tmp_path / "in.jsonl", [POEMS[0], "The lazy dog.", "x" * 300])
    found = check_data([path], tokenizer=pico_base, block_tokens=100)
    assert found.characters.percentiles["p0"] == 13
    assert found.characters.percentiles["p50"] == len(POEMS[0])
    assert found.characters.total == len(POEMS[0]) + 313
    assert found.tokens is not None
    assert found.tokens.percentiles["p100"] > 100
    assert found.num_over_block == 1
    shares = {one.name: one for one in found.scripts}
    assert shares["Han"].num_rows == 1
    assert shares["Latin"].letters == pytest.approx(310 / 330)
    assert "over a block of 100" in str(found.rows())
    assert "<td>Han letters</td>" in found._repr_html_()


def test_conversations_are_cleaned_row_by_row(tmp_path: Path) -> None:
    row: dict[str, Any] = {
        "instruction": "写一首诗",
        "input": "",
        "output": POEMS[0],
        "source": "x",
    }
    rows = [row, row | {"output": ""}, row | {"source": "y"}, row | {"output": POEMS[1]}]
    path, kept = tmp_path / "in.json", tmp_path / "out.jsonl"
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    found = clean_data([path], kept)
    assert [json.loads(line) for line in lines_of(kept)] == [rows[0], rows[3]]
    assert dict(found.dropped) == {"empty answer": 1, "exact duplicate": 1}
    assert clean_data([kept], tmp_path / "again.jsonl").num_kept == 2


def test_the_first_of_several_files_keeps_its_rows(tmp_path: Path) -> None:
    first, second = write(tmp_path / "b.jsonl", [POEMS[0]]), tmp_path / "a.txt"
    second.write_text(f"{POEMS[1]}\n\n{POEMS[0]}\n", encoding="gb18030")
    found = clean_data([first, second], tmp_path / "out.jsonl", settings=CleanSettings())
    assert [one.encoding for one in found.files] == ["utf-8", "gb18030"]
    assert found.repeated == (f"{second}:3 repeats {first}:1",)
    assert [json.loads(line)["text"] for line in lines_of(tmp_path / "out.jsonl")] == list(POEMS)


def test_a_file_that_breaks_off_is_told_by_check_and_refused_by_clean(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(f"{POEMS[0]}\n\n{POEMS[1]}\n".encode() + b"\xff\n")
    found = check_data([path])
    assert found.files[0].encoding == "unknown"
    assert found.broken[0].startswith(f"{path}:4: byte 0xff")
    with pytest.raises(DataError, match="would lose what follows"):
        clean_data([path], tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_nothing_is_written_over_and_nothing_half(tmp_path: Path) -> None:
    path, kept = write(tmp_path / "in.jsonl", list(POEMS)), tmp_path / "out.jsonl"
    clean_data([path], kept)
    written = kept.read_bytes()
    with pytest.raises(ArtifactError, match="already exists"):
        clean_data([path], kept)
    with pytest.raises(RecipeError, match=r"\.jsonl"):
        clean_data([path], tmp_path / "out.txt")

    def change(progress: Progress) -> None:
        if progress.note == "comparing rows":
            write(path, [POEMS[1], POEMS[0]])

    other = tmp_path / "other.jsonl"
    write(path, [POEMS[0], POEMS[0] + "好"])
    with pytest.raises(DataError, match="was changed while it was read"):
        clean_data([path], other, tell=change)
    assert not other.exists()
    assert not list(tmp_path.glob(f"*{PARTIAL}"))
    assert kept.read_bytes() == written


def test_the_rules_know_their_ranges() -> None:
    for wrong in (
        {"near_duplicates": 0.3},
        {"near_duplicates": 1.5},
        {"leak_units": 3},
        {"min_characters": 9, "max_characters": 8},
        {"min_script_share": 0},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong)).removeprefix("min_")[:5]):
            CleanSettings(**wrong)


def test_an_unknown_script_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "in.jsonl", list(POEMS))
    with pytest.raises(RecipeError, match="'Klingon' is not one of Latin, Han"):
        check_data([path], settings=CleanSettings(scripts=("Klingon",)))
