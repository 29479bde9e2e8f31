"""What the pages tell their reader to do can be done; English and Chinese say the same."""

import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs.make import references, results
from tests.support.adapters import adapter_of
from tests.support.documented import (
    NOT_RUN,
    NOT_RUN_IN_CHINESE,
    commands_anywhere,
    steps_of,
    unknown,
)
from tests.support.in_process import say
from tests.support.scripted import END, scripted_model

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
CHINESE = [page for page in PAGES if page.name.endswith(".zh.md")]
FOLLOWED = [DOCS / "quickstart.md", *sorted({*(DOCS / "howto").glob("*.md")} - {*CHINESE})]
SMALLER = [
    *("tokenizer.num_pieces=12", "data.heldout_documents=8", "data.heldout_questions=4"),
    *("pretrain.num_tokens=1024", "pretrain.block_tokens=64", "sft.num_tokens=1024"),
    *("eval.num_questions=2", "eval.heldout_characters=200", "eval.english_characters=300"),
    *("eval.max_answer_tokens=8", "gguf.types=[q8_0]"),
]
"""Of a recipe, so that it takes seconds."""
THAI = "สวัสดี ชาวโลก ภาษาไทย ประเทศ กรุงเทพ มหานคร เมืองหลวง ความรู้ หนังสือ โรงเรียน"
VIETNAMESE = "Việt Nam quốc gia phía đông bán đảo Đông Dương Thủ đô Hà Nội"


@pytest.fixture
def reader(
    pico_base: Path,
    pico_llama: Path,
    pico_recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The folder of a reader who has what the pages speak of, in small."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pico_base, "base")
    shutil.copytree(pico_base, "merged")
    shutil.copytree(pico_llama, "llama-7b")
    for name in ("chinese-llama-plus-7b", "chinese-alpaca-plus-7b"):
        adapter_of(Path("llama-7b"), Path(name))
    for name, source in (("heldout.txt", "zh.txt"), ("english.txt", "en.txt")):
        shutil.copyfile(pico_recipe.parent / source, name)
    for name in ("zh.txt", "en.txt", "chat.json"):
        shutil.copyfile(pico_recipe.parent / name, name)
    for name, text in (("th.txt", THAI), ("vi.txt", VIETNAMESE)):
        chance, words = random.Random(0), text.split()
        texts = ("".join(chance.choices(words, k=12)) for _ in range(80))
        Path(name).write_text("\n\n".join(texts), encoding="utf-8")
    Path("papers").mkdir()
    Path("papers/tea.txt").write_text("龙井茶产于浙江杭州西湖一带。", encoding="utf-8")
    row = {"question": "Which comes first?", "choices": ["one", "two", "three"], "answer": "A"}
    Path("questions.jsonl").write_text(json.dumps(row), encoding="utf-8")
    model = scripted_model(pico_base, tmp_path / "scripted", last=END)
    for name in ("model.gguf", "model.f16.gguf", "model.q8_0.gguf"):
        shutil.copyfile(model, name)


@pytest.mark.slow
@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("page", FOLLOWED, ids=lambda page: page.stem)
def test_a_reader_can_do_what_a_page_says(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in steps_of(page):
        if step.file:
            Path(step.file).write_text(step.text, encoding="utf-8")
        elif not step.not_run:
            words = shlex.split(step.text)[1:]
            smaller = SMALLER if words[0] in ("run", "plan") and "my.yaml" in words else []
            said = say(capsys, *words, *smaller)
            assert said.status == 0, (step.text, said.last_line)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_command_of_every_page_exists_with_its_options(page: Path) -> None:
    if page.name == "cli.md":
        return  # made of the commands themselves
    for call in commands_anywhere(page):
        assert not unknown(call), call


def test_torchrun_takes_every_command_that_pages_give_it() -> None:
    """It reads options of a program without `--` before it as its own."""
    from torch.distributed.run import get_args_parser

    num_given = 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for call in re.findall(r"torchrun (--nn?.*)", text):
            in_a_shell = re.sub(r"\$\(.*?\)|\$\w+", "1", call.rstrip("'"))
            given = get_args_parser().parse_args(shlex.split(in_a_shell))
            assert given.training_script == "hanpaca", call
            assert given.training_script_args[0] == "run", call
            num_given += 1
    assert num_given > 4


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.stem)
def test_a_chinese_page_gives_the_commands_and_files_of_the_english_one(page: Path) -> None:
    in_english = dict(zip(NOT_RUN_IN_CHINESE, NOT_RUN, strict=True))
    english = steps_of(page.with_name(page.name.replace(".zh.md", ".md")))
    chinese = steps_of(page)
    assert [(one.file, in_english.get(one.not_run, one.not_run)) for one in chinese] == [
        (one.file, one.not_run) for one in english
    ]
    assert [one.text for one in chinese if not one.file] == [
        one.text for one in english if not one.file
    ]
    headings = [
        one.read_text(encoding="utf-8").count("\n#")
        for one in (page, page.with_name(page.name.replace(".zh.md", ".md")))
    ]
    assert headings[0] == headings[1]


def test_every_page_that_a_newcomer_reads_is_there_in_chinese() -> None:
    for page in [*FOLLOWED, *(DOCS / f"{name}.md" for name in ("index", "concepts", "faq"))]:
        assert page.with_name(f"{page.stem}.zh.md").is_file()


def test_pages_made_of_the_program_are_current() -> None:
    for module in (references, results):
        for name, written in module.PAGES.items():
            assert (DOCS / name).read_text(encoding="utf-8") == written(), (
                f"docs/{name} is old: PYTHONPATH=src:. python -m {module.__name__}"
            )


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(
    tmp_path: Path,
) -> None:
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    pytest.importorskip("mkdocs_static_i18n", reason="mkdocs-static-i18n is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for page in (tmp_path / "index.html", tmp_path / "zh/quickstart/index.html"):
        text = page.read_text(encoding="utf-8")
        assert "hanpaca" in text
        assert 'src="http' not in text
        assert 'rel="stylesheet" href="http' not in text
