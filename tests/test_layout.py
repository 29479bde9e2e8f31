"""The shape of the code: how deep imports go, how long a thing may be, one name for one thing."""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1] / "src"
MOST_MODULES_IN_A_CHAIN = 15
MOST_LINES, MOST_FUNCTION_LINES = 400, 60
# What is not so yet; every line goes with the change that mends it, and none may come.
STILL_TWICE = {
    "Blocks",
    "Vocabulary",
}
STILL_LONG = {
    "hanpaca.cli.chat.chat",
    "hanpaca.cli.combine.combine",
    "hanpaca.cli.merge.merge",
    "hanpaca.gguf.write.write_files",
    "hanpaca.steps.sft.sft",
}


@cache
def modules() -> Mapping[str, ast.Module]:
    """Every module of the package, by its dotted name."""
    return {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
            file.read_text(encoding="utf-8")
        )
        for file in sorted(ROOT.rglob("*.py"))
    }


def statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """What runs when a module is imported; not what only a type checker reads."""
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node


def imported(name: str) -> set[str]:
    """Modules of the package that are loaded together with one."""
    found = set()
    for node in statements(modules()[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & modules().keys()) or {node.module}
    return found & modules().keys()


@cache
def longest_chain(name: str) -> tuple[str, ...]:
    chains = (longest_chain(one) for one in sorted(imported(name)))
    return (name, *max(chains, key=len, default=()))


def test_no_chain_of_imports_is_longer_than_one_can_follow() -> None:
    longest = max((longest_chain(name) for name in modules()), key=len)
    assert len(longest) <= MOST_MODULES_IN_A_CHAIN, " > ".join(longest)


def test_no_two_classes_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(name)
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert {name: where for name, where in twice.items() if name not in STILL_TWICE} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{name}.{node.name}"
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MOST_FUNCTION_LINES
    ]
    assert set(long) <= STILL_LONG


def test_no_module_is_longer_than_one_reads_at_once() -> None:
    sizes = {
        str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines())
        for file in ROOT.rglob("*.py")
    }
    assert {name: size for name, size in sizes.items() if size > MOST_LINES} == {}


def test_no_test_imports_another() -> None:
    """What two tests need stands in tests/support."""
    tests = Path(__file__).parent
    lines = [
        f"{file.relative_to(tests)}: {line}"
        for file in sorted(tests.rglob("*.py"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.startswith(("from tests.", "import tests.")) and ".test_" in line
    ]
    assert lines == []
