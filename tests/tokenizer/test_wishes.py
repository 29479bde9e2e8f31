"""What an extension heeds beside its texts, for both families."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hanpaca.cli import app
from hanpaca.errors import DataError, HanpacaError, RecipeError
from hanpaca.tokenizer.extension.extend import extend_tokenizer
from hanpaca.tokenizer.extension.wishes import Wishes
from hanpaca.tokenizer.open import open_tokenizer
from hanpaca.tokenizer.vocabulary import text_of

CHINESE = [
    "白日依山尽，黄河入海流。”“欲穷千里目，更上一层楼。”",
    "白日放歌须纵酒，黄河远上白云间。”“千里江陵一日还。”",
] * 3
VIETNAMESE = ["Tất cả mọi người sinh ra đều được tự do.", "Mọi người đều được tự do như nhau."] * 3
ENGLISH = ["All human beings are born free and equal.", "Tat ca moi nguoi sinh ra tu do."]


@pytest.fixture(params=["pico_base", "pico_sentencepiece"])
def base(request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue(request.param))


def pieces_of(base: Path, texts: list[str], num_pieces: int, wishes: Wishes) -> set[str]:
    """New pieces as text; half characters are left out."""
    extension = extend_tokenizer(base, texts, num_pieces=num_pieces, wishes=wishes)
    shown = (text_of(extension.tokenizer.surface(piece)) for piece in extension.pieces)
    return {piece for piece in shown if "\\x" not in piece}


def most(base: Path, texts: list[str], wishes: Wishes) -> set[str]:
    """All pieces that texts can give."""
    with pytest.raises(DataError, match=r"only \d+ new pieces") as caught:
        extend_tokenizer(base, texts, num_pieces=5000, wishes=wishes)
    number = int(str(caught.value).split("only ")[1].split()[0])
    return pieces_of(base, texts, number, wishes)


def test_punctuation_is_left_alone_joined_or_mixed(
    sentencepiece_trainer: Callable[..., bytes], tmp_path: Path
) -> None:
    lines = [*ENGLISH, "“Free!”, he said. “Equal!”, she said.", "，。"] * 3
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_trainer(lines, vocab_size=310))
    signs = set("，。”“")
    none, runs, mixed = (
        most(tmp_path, CHINESE, Wishes(punctuation=choice))
        for choice in ("none", "runs", "with_text")
    )
    assert not any(signs & set(piece) for piece in none)
    assert {piece for piece in runs if signs & set(piece)} == {"。”"}
    assert runs - none == {"。”"}
    assert any(signs & set(piece) and not set(piece) <= signs for piece in mixed)
    assert not any(set(piece) <= set("”“") for piece in mixed)  # they are English too


def test_a_sign_that_shares_bytes_with_others_is_left_alone(pico_base: Path) -> None:
    # This base spells 。 with three bytes, and the first two begin signs like the postal mark too.
    assert not any("。" in piece for piece in most(pico_base, CHINESE, Wishes(punctuation="runs")))


def test_an_unknown_choice_of_punctuation_is_named(base: Path) -> None:
    with pytest.raises(RecipeError, match="punctuation is 'all'; it can be none, runs, with_text"):
        extend_tokenizer(base, CHINESE, num_pieces=2, wishes=Wishes(punctuation="all"))  # type: ignore[arg-type]


def test_required_characters_are_one_token_each(base: Path) -> None:
    wishes = Wishes(required="龘 靐\n齉白")
    extension = extend_tokenizer(base, CHINESE, num_pieces=12, wishes=wishes)
    for character in "龘靐齉白":
        assert len(extension.tokenizer.spell([character.encode()])[0]) == 1
    assert len(extension.pieces) == 12


def test_required_characters_that_need_more_pieces_say_how_many(base: Path) -> None:
    wishes = Wishes(required="龘靐齉")
    with pytest.raises(RecipeError, match=r"need \d+ new pieces: ask for at least (\d+)") as caught:
        extend_tokenizer(base, CHINESE, num_pieces=2, wishes=wishes)
    enough = int(str(caught.value).rsplit(" ", 1)[1])
    assert pieces_of(base, CHINESE, enough, wishes) == set("龘靐齉")


def test_required_characters_of_another_script_are_refused(base: Path) -> None:
    with pytest.raises(DataError, match="2 are not Han, such as 'a'"):
        extend_tokenizer(base, CHINESE, num_pieces=2, wishes=Wishes(required="白aж"))


@pytest.mark.slow
def test_published_pieces_are_enough_without_text(base: Path) -> None:
    prior = {"▁白日": -1.0, "黄河": -2.0, "白日依山": -3.0, "abc": -0.1, "白a": -0.1, "</s>": 0.0}
    pieces = most(base, [], Wishes(prior=prior))
    assert pieces >= {"白日", "黄河", "白日依山"}
    assert not [piece for piece in pieces if "a" in piece]


@pytest.mark.slow
def test_published_pieces_and_text_add_up(base: Path) -> None:
    prior = {"黄河": -1.0, "海流": -2.0}
    pieces = most(base, ["白云白云"], Wishes(prior=prior))
    assert pieces >= {"白云", "黄河", "海流"}


def test_protected_text_keeps_its_ids_though_it_has_the_same_letters(base: Path) -> None:
    wishes = Wishes(protect=ENGLISH)
    extension = extend_tokenizer(base, VIETNAMESE, num_pieces=10, scripts=["Latin"], wishes=wishes)
    old, new = open_tokenizer(base), extension.tokenizer
    assert new.encode(ENGLISH) == old.encode(ENGLISH)
    assert sum(map(len, new.encode(VIETNAMESE))) < sum(map(len, old.encode(VIETNAMESE)))
    shown = [text_of(new.surface(piece)) for piece in extension.pieces]
    assert any("ư" in piece for piece in shown)


def test_a_latin_target_needs_text_to_protect(base: Path) -> None:
    with pytest.raises(RecipeError, match="or give text to protect"):
        extend_tokenizer(base, VIETNAMESE, num_pieces=5, scripts=["Latin"])


def run_extend(base: Path, folder: Path, *options: str) -> HanpacaError | None:
    call = ["tokenizer", "extend", "--base", str(base), "-o", str(folder / "new"), *options]
    error = CliRunner().invoke(app, call).exception
    assert error is None or isinstance(error, HanpacaError), error
    return error


def test_the_command_takes_all_of_them(base: Path, tmp_path: Path) -> None:
    for name, text in (
        ("zh.txt", "\n\n".join(CHINESE)),
        ("required.txt", "\ufeff龘\n靐"),
        ("prior.tsv", "白日\t-1.5\n黄河\t-2\n"),
        ("en.txt", "\n\n".join(ENGLISH)),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
    files = {
        "--text": "zh.txt", "--required": "required.txt", "--prior": "prior.tsv",
        "--protect": "en.txt",
    }  # fmt: skip
    options = [part for name, file in files.items() for part in (name, str(tmp_path / file))]
    more = ("--punctuation", "with_text", "--num-pieces", "15")
    assert run_extend(base, tmp_path, *options, *more) is None
    new = open_tokenizer(tmp_path / "new")
    assert len(new.ids) == len(open_tokenizer(base).ids) + 15
    assert len(new.spell(["龘".encode()])[0]) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "nothing to learn from: give --text or --prior"),
        (("--prior", "none.model"), "none.model: no such file"),
        (("--prior", "bad.model"), "bad.model: damaged or no SentencePiece model"),
        (("--prior", "bad.tsv"), "bad.tsv:2: '日 -2' is not a piece, a tab and a log-probability"),
        (("--prior", "plus.tsv"), "plus.tsv:1: "),
        (("--prior", "latin.tsv", "--script", "Han"), "no Han characters"),
        (("--prior", "latin.tsv"), "no letters of a script that English does not use"),
        (("--prior", "gbk.tsv"), "gbk.tsv: is not UTF-8"),
        (("--prior", "good.tsv", "--required", "none.txt"), "none.txt: no such file"),
        (("--prior", "good.tsv", "--punctuation", "some"), "punctuation is 'some'"),
        (("--prior", "good.tsv", "--script", "Klingon"), "'Klingon' is not the name"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    pico_base: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    contents = {
        "bad.model": b"\x00\x01", "bad.tsv": "白\t-1\n日 -2".encode(), "latin.tsv": b"abc\t-1",
        "plus.tsv": "白\t1".encode(), "gbk.tsv": "白\t-1".encode("gbk"),
        "good.tsv": "白日\t-1".encode(),
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    paths = [str(tmp_path / part) if "." in part else part for part in options]
    error = run_extend(pico_base, tmp_path, *paths, "--num-pieces", "2")
    assert error is not None
    assert message in str(error)
    assert "\n" not in str(error)
    assert {path.name for path in tmp_path.iterdir()} == contents.keys()
