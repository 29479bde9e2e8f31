"""Code in an answer, run on cases in a process of its own with narrow limits.

The process may use a second of the processor, 512 MB of memory and no more files than it has,
so that it can open neither files nor connections, and an audit hook refuses other programs. It has
no environment and an empty folder. That holds accidents and careless code; it is no prison for code
that was written to break out of it.
"""

import json
import math
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import regex

_FENCE = regex.compile(r"```[ \t]*\w*[ \t]*\n(.*?)(?:```|\Z)", regex.DOTALL)
_SECONDS = 10.0
"""By the clock, on a machine that is busy."""
_CHILD = r"""
import sys, json, io, os, resource
import math, re, string, random, itertools, functools, collections, operator, typing, datetime
import heapq, bisect, copy
asked = json.load(sys.stdin)
out, sys.stdout, sys.stderr, sys.stdin = sys.stdout, io.StringIO(), io.StringIO(), io.StringIO()
for what, most in ((resource.RLIMIT_CPU, 1), (resource.RLIMIT_AS, 512 << 20),
                   (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0),
                   (resource.RLIMIT_NOFILE, 3)):
    resource.setrlimit(what, (most, most))
def refuse(event, args):
    if event.split(".")[0] in ("socket", "subprocess", "ctypes", "shutil", "ftplib", "urllib"):
        raise PermissionError(event)
    if event.startswith("os.") and event != "os.listdir":
        raise PermissionError(event)
    if event == "open" and not str(args[0]).endswith((".py", ".pyc")):
        raise PermissionError(event)
results = []
try:
    code = compile(asked["code"], "answer", "exec")
    names = {"__name__": "answer"}
    sys.addaudithook(refuse)
    exec(code, names)
    for given in asked["cases"]:
        results.append(json.loads(json.dumps(names[asked["name"]](*given), ensure_ascii=False)))
except BaseException:
    results = None
out.write(asked["token"] + json.dumps(results))
out.flush()
"""


def runs_right(text: str, name: str, cases: Sequence[Sequence[Any]]) -> tuple[bool, bool]:
    """Whether the function that was asked for gives what it must.

    Args:
        text: The answer; its code is between fences, or all of it.
        name: Of the function.
        cases: Arguments and what they must give, JSON-safe.

    Returns:
        Strict: with the first fenced code, or the whole answer where there is no fence. Loose: also
        with all fenced code together, or with the lines from the first that begin code.
    """
    strict, *others = dict.fromkeys(_codes(text))
    if _passes(strict, name, cases):
        return True, True
    return False, any(_passes(one, name, cases) for one in others)


def _codes(text: str) -> Iterator[str]:
    """What may be the code of an answer, the likeliest first."""
    blocks = _FENCE.findall(text)
    yield blocks[0] if blocks else text
    if len(blocks) > 1:
        yield "\n".join(blocks)
        yield from blocks[1:]
    lines = text.splitlines()
    begun = [n for n, one in enumerate(lines) if one.startswith(("def ", "import ", "from "))]
    if begun and not blocks:
        # Prose after the code ends it: lines of a function are indented, or empty.
        kept = lines[begun[0] :]
        ends = (
            n
            for n, one in enumerate(kept)
            if n and one and not one.startswith((" ", "\t", "def ", "import ", "from ", "@"))
        )
        code = "\n".join(kept[: next(ends, len(kept))])
        yield text if code.strip() == text.strip() else code


def _passes(code: str, name: str, cases: Sequence[Sequence[Any]]) -> bool:
    found = _results(code, name, [given for given, _ in cases])
    return (
        found is not None
        and len(found) == len(cases)
        and all(_same(one, wanted) for one, (_, wanted) in zip(found, cases, strict=True))
    )


def _results(code: str, name: str, cases: Sequence[Any]) -> list[Any] | None:
    """What the function gives for each case; None where it fails or takes too much."""
    if name not in code:
        return None
    token = secrets.token_hex()  # what the answer prints itself is no result
    asked = json.dumps({"code": code, "name": name, "cases": cases, "token": token})
    with tempfile.TemporaryDirectory() as empty:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-B", "-c", _CHILD],
                input=asked.encode(),
                capture_output=True,
                cwd=empty,
                env={},
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None
    said = done.stdout.decode(errors="replace")
    if done.returncode != 0 or not said.startswith(token):
        return None
    results: list[Any] | None = json.loads(said.removeprefix(token))
    return results


def _same(found: Any, wanted: Any) -> bool:  # noqa: ANN401  # JSON values
    """Equal, where True is not 1 and floats may differ in their last digits."""
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    if isinstance(found, int | float) and isinstance(wanted, int | float):
        return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-12)
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(_same, found, wanted))
    return bool(found == wanted)
