"""What is asked in which language is data; the code knows no language by name."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import regex

import hanpaca
from hanpaca.evals.tasks.languages import language_name, language_of_texts, probe_prompt, prompts

SOURCE = Path(hanpaca.__file__).parent
OF_ONE_LANGUAGE = regex.compile(r"\p{Script=Han}|Chinese|\bzh\b")


KNOWN = {
    "evals/tasks": "what is asked and judged in each language",
    "data/": "the material of one language that comes with the package, and encodings",
    "app/": "the words of the web page in both of its languages",
    "languages.py": "the scripts of all languages",
    "settings.py": "the language learned where none is named",
    "runs/decided.py": "runs made before a language could be named keep their keys",
    "tokenizer/extension/scripts.py": "what Unicode says of signs of some scripts",
    "merging/parity.py": "sentences of two scripts, on which any two models can be compared",
    "inference/ollama.py": "a conversation in two scripts, by which templates are compared",
}
"""Where one language may be known, and why."""
RELEASED = regex.compile("chinese[- _](llama|alpaca)", regex.IGNORECASE)
"""Models that were published under these names."""


def code_of(file: Path) -> list[str]:
    """All names and texts of a module but what explains it: examples may be in any language."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        RELEASED.sub("", node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told
    ]


def test_only_tasks_and_data_know_a_language_by_name() -> None:
    for file in SOURCE.rglob("*.py"):
        name = file.relative_to(SOURCE).as_posix()
        if not name.startswith(tuple(KNOWN)):
            found = [text for text in code_of(file) if OF_ONE_LANGUAGE.search(text)]
            assert found == [], name


def test_every_place_that_may_know_a_language_does() -> None:
    for name in KNOWN:
        place = SOURCE / name
        files = [place] if place.is_file() else list(place.rglob("*.py"))
        assert any(OF_ONE_LANGUAGE.search(text) for file in files for text in code_of(file)), name


@pytest.mark.parametrize(
    ("text", "besides", "tag"),
    [
        ("The best of times.", "ko", "en"),
        ("Привет, мир (hello)", "ko", "ru"),
        ("한국어와 English", "zh", "ko"),
        ("日本語の文章は漢字と仮名で書かれる。", "zh", "ja"),
        ("白日依山尽", "ko", "zh"),
        ("The best of times.", "en", "und"),
        ("12 + 3", "ko", "en"),
    ],
)
def test_the_language_to_be_kept_is_told_from_its_text(text: str, besides: str, tag: str) -> None:
    assert language_of_texts([text], besides=besides) == tag


def test_every_language_is_greeted_and_asked_in_its_own_script_and_in_english() -> None:
    for tag, script in (("zh", "Han"), ("ko", "Hangul"), ("ja", "Hiragana"), ("th", "Thai")):
        letter = regex.compile(rf"\p{{Script={script}}}")
        assert letter.search(probe_prompt(tag))
        assert letter.search(prompts(tag)[0].text)
        assert prompts(tag)[-1].language == "en"
    assert probe_prompt("zh-Hant") == probe_prompt("zh")


def test_a_language_without_a_file_is_asked_in_english() -> None:
    assert prompts("sw") == prompts("en")
    assert language_name("sw") == "Swahili"
    assert language_name("tlh") == "tlh"


def test_results_and_tasks_are_read_without_torch() -> None:
    code = (
        "import sys, hanpaca.evals.results, hanpaca.evals.tasks.languages;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
