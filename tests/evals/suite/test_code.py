"""Code in answers, right and wrong, by hand; each runs in a process with narrow limits."""

# ruff: noqa: E501  # code on one line each

import json

import pytest

from hanpaca.evals.tasks.suite.code import runs_right

RIGHT, HALF, WRONG = (True, True), (False, True), (False, False)
EVEN = ("is_even", [[[4], True], [[7], False], [[0], True]])
FIB = ("fib", [[[0], 0], [[1], 1], [[10], 55]])
UNIQUE = ("unique", [[[[1, 2, 1]], [1, 2]], [[[]], []]])
HEAT = ("to_fahrenheit", [[[0], 32], [[37], 98.6]])
COUNT = ("count_letters", [[["aab"], {"a": 2, "b": 1}], [["你"], {"你": 1}]])
GOOD_EVEN = "def is_even(n):\n    return n % 2 == 0\n"
GOOD_FIB = (
    "def fib(n):\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a\n"
)
FENCED = "```python\n{}```"
CASES = [
    *((GOOD_EVEN, EVEN, RIGHT), (FENCED.format(GOOD_EVEN), EVEN, RIGHT)),
    *(
        (f"```\n{GOOD_EVEN}```", EVEN, RIGHT),
        (f"当然：\n```python\n{GOOD_EVEN}```\n好了。", EVEN, RIGHT),
    ),
    *((f"```python\n{GOOD_EVEN}", EVEN, RIGHT), ("is_even = lambda n: n % 2 == 0", EVEN, RIGHT)),
    *((f"```py\n{GOOD_EVEN}print(is_even(2))\n```", EVEN, RIGHT),),
    *((f"{GOOD_EVEN}\nif __name__ == '__main__':\n    print(is_even(int(input())))", EVEN, RIGHT),),
    *(("def is_even(n: int) -> bool:\n    return not n & 1", EVEN, RIGHT),),
    *(
        (
            "def is_even(n):\n    if n % 2 == 0:\n        return True\n    else:\n        return False",
            EVEN,
            RIGHT,
        ),
    ),
    *((f"下面是函数：\n{GOOD_EVEN}", EVEN, HALF), (f"{GOOD_EVEN}这个函数判断奇偶。", EVEN, HALF)),
    *((f"代码：\n\n{GOOD_EVEN}\n以上就是全部。", EVEN, HALF),),
    *((f"例子：\n```\nis_even(2)\n```\n函数：\n```python\n{GOOD_EVEN}```", EVEN, HALF),),
    *(
        ("def is_even(n):\n    return n % 2 == 1", EVEN, WRONG),
        ("def is_even(n):\n    pass", EVEN, WRONG),
    ),
    *(("def is_even(n):\n    return 1 - n % 2", EVEN, WRONG), ("", EVEN, WRONG)),
    *(("def even(n):\n    return n % 2 == 0", EVEN, WRONG), ("偶数能被二整除。", EVEN, WRONG)),
    *(
        ("def is_even(n)\n    return n % 2 == 0", EVEN, WRONG),
        ("def is_even():\n    return True", EVEN, WRONG),
    ),
    *(("def is_even(n):\nreturn n % 2 == 0", EVEN, WRONG), ("is_even", EVEN, WRONG)),
    *(("def is_even(n):\n    print(n % 2 == 0)", EVEN, WRONG), ("is_even(4) == True", EVEN, WRONG)),
    *(("def is_even(n):\n    while True: pass", EVEN, WRONG),),
    *(("def is_even(n):\n    return is_even(n - 2)", EVEN, WRONG),),
    *(("def is_even(n):\n    x = [0] * 10**10\n    return True", EVEN, WRONG),),
    *(("import os\nos._exit(0)\ndef is_even(n): return True", EVEN, WRONG),),
    *(("import sys\nsys.exit(0)\ndef is_even(n): return True", EVEN, WRONG),),
    *(("raise SystemExit\ndef is_even(n): return True", EVEN, WRONG),),
    *((GOOD_FIB, FIB, RIGHT), (FENCED.format(GOOD_FIB), FIB, RIGHT)),
    *(("def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)", FIB, RIGHT),),
    *(
        (
            "from functools import lru_cache\n@lru_cache\ndef fib(n):\n    return n if n < 2 else fib(n-1) + fib(n-2)",
            FIB,
            RIGHT,
        ),
    ),
    *(
        (
            "def fib(n):\n    s = [0, 1]\n    while len(s) <= n:\n        s.append(s[-1] + s[-2])\n    return s[n]",
            FIB,
            RIGHT,
        ),
    ),
    *(
        (
            "def helper(a, b, n):\n    return a if n == 0 else helper(b, a + b, n - 1)\n\ndef fib(n):\n    return helper(0, 1, n)",
            FIB,
            RIGHT,
        ),
    ),
    *(("def fib(n):\n    return 1 if n < 2 else fib(n - 1) + fib(n - 2)", FIB, WRONG),),
    *(("def fib(n):\n    return [0, 1, 1, 2][n]", FIB, WRONG), ("fib = 55", FIB, WRONG)),
    *(("def fib(n):\n    return str(n)", FIB, WRONG), ("fib(10) = 55", FIB, WRONG)),
    *(("def fib(n):\n    return float('nan')", FIB, WRONG), ("class fib: pass", FIB, WRONG)),
    *(("def unique(items):\n    return list(dict.fromkeys(items))", UNIQUE, RIGHT),),
    *(
        (
            "def unique(items):\n    seen = []\n    for one in items:\n        if one not in seen:\n            seen.append(one)\n    return seen",
            UNIQUE,
            RIGHT,
        ),
    ),
    *(("def unique(items):\n    return tuple(dict.fromkeys(items))", UNIQUE, RIGHT),),
    *(
        ("def unique(items):\n    return items", UNIQUE, WRONG),
        ("def unique(items):\n    return set(items)", UNIQUE, WRONG),
    ),
    *(("def unique(items):\n    return sorted(set(items))[::-1]", UNIQUE, WRONG),),
    *(("def unique(items):\n    yield from items", UNIQUE, WRONG),),
    *(
        ("def to_fahrenheit(c):\n    return c * 9 / 5 + 32", HEAT, RIGHT),
        ("to_fahrenheit = lambda c: c * 1.8 + 32", HEAT, RIGHT),
    ),
    *(("def to_fahrenheit(c):\n    return 32 + c / 5 * 9", HEAT, RIGHT),),
    *(
        ("def to_fahrenheit(c):\n    return c * 2 + 30", HEAT, WRONG),
        ("def to_fahrenheit(c):\n    return f'{c * 1.8 + 32}'", HEAT, WRONG),
    ),
    *(("def to_fahrenheit(c):\n    return int(c * 1.8 + 32)", HEAT, WRONG),),
    *(
        (
            "from collections import Counter\ndef count_letters(text):\n    return Counter(text)",
            COUNT,
            RIGHT,
        ),
    ),
    *(
        (
            "from collections import Counter\n\ndef count_letters(text):\n    return dict(Counter(text))",
            COUNT,
            RIGHT,
        ),
    ),
    *(("def count_letters(text):\n    return {c: text.count(c) for c in text}", COUNT, RIGHT),),
    *(
        (
            "def count_letters(text):\n    found = {}\n    for c in text:\n        found[c] = found.get(c, 0) + 1\n    return found",
            COUNT,
            RIGHT,
        ),
    ),
    *(
        ("def count_letters(text):\n    return len(text)", COUNT, WRONG),
        ("def count_letters(text):\n    return {}", COUNT, WRONG),
    ),
    *(
        ("def count_letters(text):\n    return {c: 1 for c in text}", COUNT, WRONG),
        ("def count_letters(text: str) -> dict", COUNT, WRONG),
    ),
    *(
        ("def count_letters(text):\n    raise ValueError", COUNT, WRONG),
        ("def count_letters(text):\n    return Counter(text)", COUNT, WRONG),
    ),
]


@pytest.mark.parametrize(("text", "task", "verdict"), CASES)
def test_code_is_right_or_not(
    text: str, task: tuple[str, list[list[object]]], verdict: tuple[bool, bool]
) -> None:
    assert runs_right(text, *task) == verdict


@pytest.mark.parametrize(
    "harm",
    [
        "import socket\n    socket.create_connection(('127.0.0.1', 9))",
        "import os\n    os.system('touch /tmp/hanpaca-harm')",
        "import subprocess\n    subprocess.run(['true'])",
        "open('/etc/hostname').read()",
        "open('harm', 'w').write('x')",
        "import os\n    os.fork()",
        "import os\n    os.environ['PATH']",
        "import urllib.request\n    urllib.request.urlopen('http://127.0.0.1:9')",
    ],
)
def test_code_reaches_nothing_outside(harm: str) -> None:
    code = f"def is_even(n):\n    {harm}\n    return n % 2 == 0"
    assert runs_right(code, *EVEN) == WRONG


def test_a_result_cannot_be_printed_in_place_of_one() -> None:
    forged = json.dumps([True, False, True])
    code = f"import sys\nsys.__stdout__.write('results:{forged}')\nsys.__stdout__.flush()\nimport os\nos._exit(0)\ndef is_even(n): pass"
    assert runs_right(code, *EVEN) == WRONG


def test_there_are_sixty() -> None:
    assert len(CASES) >= 60
