"""English prose from the documentation inside installed Python packages.

A small default for replay: real English under a free licence that is on every machine the package
runs on. It is technical; give your own text (`data.replay`) for anything else.
"""

import ast
import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hanpaca.errors import ResourceError

REPLAY_PACKAGES = ("sympy", "numpy")
"""Learned from. Both BSD-3-Clause, both installed with hanpaca's own dependencies."""
HELDOUT_PACKAGES = ("networkx",)
"""Evaluated on: BSD-3-Clause, another project by other writers, never learned from."""

_CODE = re.compile(r">>>|::|--|==|\{|\}|\\|[_=<>|~^]|\w\(|https?://|`{2}|:math:|^\s*[-*.\d]")
_WORD = re.compile(r"[A-Za-z][a-z]+")


def docstring_prose(packages: Sequence[str], *, most_characters: int = 2_000) -> list[str]:
    """Collect the plain-English paragraphs of packages' docstrings, without importing them.

    A paragraph is kept if it reads as prose: whole sentences, no code, no markup, no formulas.
    Paragraphs of one file make up documents of at most `most_characters` characters. Order and
    content depend on the installed versions only; no paragraph comes twice.

    Raises:
        ResourceError: A package is not installed.
    """
    seen: set[str] = set()
    documents: list[str] = []
    for package in packages:
        for file in _python_files(package):
            kept: list[str] = []
            for paragraph in _paragraphs(file):
                if paragraph in seen or not _is_prose(paragraph):
                    continue
                seen.add(paragraph)
                if kept and sum(map(len, kept)) + len(paragraph) > most_characters:
                    documents.append("\n\n".join(kept))
                    kept = []
                kept.append(paragraph)
            if kept:
                documents.append("\n\n".join(kept))
    return documents


def _python_files(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ResourceError(f"the package {package} is not installed: pip install {package}")
    root = Path(spec.submodule_search_locations[0])
    return sorted(
        file
        for file in root.rglob("*.py")
        if "tests" not in file.parts and "test" not in file.parts
    )


def _paragraphs(file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # templates and files for other Python versions
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from re.split(r"\n\s*\n", ast.get_docstring(node) or "")


def _is_prose(paragraph: str) -> bool:
    text = " ".join(paragraph.split())
    words = _WORD.findall(text)
    return (
        len(text) >= 120
        and text[0].isupper()
        and text[-1] == "."
        and text.isascii()
        and not any(_CODE.search(line) for line in paragraph.splitlines())
        and sum(map(len, words)) >= 0.75 * len(text.replace(" ", ""))
    )
