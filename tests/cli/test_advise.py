"""`tokenizer advise` on a pico model: table, JSON, plot, and options that contradict."""

import json
import random
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from hanpaca.cli.app import app
from hanpaca.errors import HanpacaError, RecipeError

WORDS = ["白日", "依山", "尽", "黄河", "入海", "流", "欲穷", "千里目", "更上", "一层楼", "春眠"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = random.Random(0)
    texts = ["".join(draw.choices(WORDS, k=30)) + "。" for _ in range(300)]
    file = tmp_path_factory.mktemp("corpus") / "a.txt"
    file.write_text("\n\n".join(texts), encoding="utf-8")
    return file


def run(base: Path, corpus: Path, *options: str) -> str:
    arguments = ["tokenizer", "advise", "--base", str(base), "--text", str(corpus)]
    done = CliRunner().invoke(
        app, [*arguments, "--num-pieces", "60", *options], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_table_and_a_sentence(pico_base: Path, corpus: Path) -> None:
    shown = run(pico_base, corpus)
    assert "tokens/char" in shown
    assert shown.strip().splitlines()[-1].startswith("Extend by 60 pieces: ")


def test_json_svg_and_html(pico_base: Path, corpus: Path, tmp_path: Path) -> None:
    svg, html = tmp_path / "new/a.svg", tmp_path / "a.html"
    html.write_text("an older one")
    found = json.loads(
        run(pico_base, corpus, "--json", "--svg", str(svg), "--html", str(html))
    )  # fmt: skip
    assert found["num_pieces"] == 60
    assert [option["point"]["num_pieces"] for option in found["options"]] == [0, 60]
    assert found["options"][1]["added_parameters"] == 60 * 32
    assert found["options"][1]["break_even_characters"] is None
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    assert found["sentence"] in html.read_text(encoding="utf-8")
    assert "<script" not in html.read_text(encoding="utf-8")
    assert {file.name for file in tmp_path.iterdir()} == {"new", "a.html"}


def test_sizes_may_be_given_for_a_bare_tokenizer(
    pico_base: Path, corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_bytes((pico_base / "tokenizer.json").read_bytes())
    sizes = ("--num-parameters", "1000000", "--hidden-size", "100")
    speeds = ("--train-speed", "500", "--decode-speed", "50")
    found = json.loads(run(tmp_path, corpus, "--json", *sizes, *speeds))
    assert found["options"][1]["added_parameters"] == 2 * 60 * 100
    assert found["options"][1]["break_even_characters"] > 0
    tied = json.loads(run(tmp_path, corpus, "--json", *sizes, "--tied"))
    assert tied["options"][1]["added_parameters"] == 60 * 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--num-parameters", "1000"), "give num_parameters= and hidden_size= together"),
        (("--num-parameters", "1000", "--hidden-size", "9"), "leave nothing beside"),
        (("--train-speed", "5"), "give train_speed= and decode_speed= together"),
        (("--train-speed", "5", "--decode-speed", "0"), "both above 0"),
        (("--script", "Klingon"), "not the name of a Unicode script"),
    ],
)
def test_options_that_contradict_are_refused(
    pico_base: Path, corpus: Path, options: tuple[str, ...], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        run(pico_base, corpus, *options)


def test_a_base_without_sizes_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(HanpacaError, match=r"config\.json: cannot be read"):
        run(tmp_path, corpus)
    assert not list(tmp_path.iterdir())
