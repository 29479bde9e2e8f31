"""No message below the faces names an option: each face has its own word for a setting."""

import ast
import re
from pathlib import Path

import hanpaca

SOURCE = Path(hanpaca.__file__).parent
ALLOWED = {
    "checkpoints/released.py": "the whole command of a released model",
    "data/builtin/packages.py": "pip's own options",
    "sections.py": "pip's own options",
    "steps/export.py": "commands of llama.cpp and Ollama",
    "tokenizer/conversion/gguf_fields.py": "an option of another program",
}
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def texts(tree: ast.Module) -> list[str]:
    """All texts of a module but its docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    docs |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    ]


def test_no_text_below_the_faces_names_an_option() -> None:
    found = {}
    for file in sorted(SOURCE.rglob("*.py")):
        name = file.relative_to(SOURCE).as_posix()
        if name.startswith(("cli/", "app/")) or name in ALLOWED:
            continue
        named = [text for text in texts(ast.parse(file.read_text("utf-8"))) if _OPTION.search(text)]
        if named:
            found[name] = named
    assert found == {}
